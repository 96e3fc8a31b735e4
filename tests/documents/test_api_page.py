"""docs/api.md describes the API as it is: routes, fields of a job, error codes, examples."""

import json
from typing import Any

import msgspec

from tests.documents.pages import DOCS, README, Page, rows
from ytmp3.core.recipe import Quality
from ytmp3.http.request_bodies import ExtractRequest
from ytmp3.http.routes import ROUTES
from ytmp3.http.wire import JobView

API = DOCS["api"]


def examples(page: Page) -> list[dict[str, Any]]:
    return [json.loads(block.text) for block in page.blocks if block.language == "json"]


def test_the_table_of_fields_has_every_field_of_a_job_in_its_order() -> None:
    listed = [row[0].strip("`") for row in rows(API.section("Fields of a job"))]
    assert listed == [field.name for field in msgspec.structs.fields(JobView)]


def test_the_table_says_which_fields_of_a_job_may_be_null() -> None:
    marked = {row[0].strip("`") for row in rows(API.section("Fields of a job")) if "null" in row[1]}
    assert marked == {field.name for field in msgspec.structs.fields(JobView) if "None" in str(field.type)}


def test_the_table_of_the_request_has_every_field() -> None:
    listed = [row[0].strip("`") for row in rows(API.section("Convert a link"))]
    assert listed == [field.name for field in msgspec.structs.fields(ExtractRequest)]


def test_every_quality_is_named() -> None:
    section = API.section("Convert a link")
    assert all(f"`{quality}`" in section for quality in Quality)


def test_the_examples_of_jobs_have_the_form_of_a_job() -> None:
    jobs = [example for example in examples(API) if "job_id" in example]
    assert jobs
    for job in jobs:
        msgspec.convert(job, JobView, strict=False)
        assert set(job) == {field.name for field in msgspec.structs.fields(JobView)}


def test_every_route_that_clients_use_is_explained_beside_its_table() -> None:
    explained = "".join(text for text in API.text.split("<!-- routes: generated -->"))
    for route in ROUTES:
        assert route.path.partition("{")[0] in explained, route.path


def test_the_readme_says_how_a_key_is_sent() -> None:
    assert '-H "X-API-Key: ' in README.text
