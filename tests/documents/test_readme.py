"""What the README says is what the code does: settings, error codes, routes."""

import re
from pathlib import Path

from ytmp3.core import errors
from ytmp3.core.errors import FAILURES, RequestError
from ytmp3.http.problems import _CODES
from ytmp3.http.routes import ROUTES
from ytmp3.variables import VARIABLES

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()


def rows(name: str) -> list[list[str]]:
    """The cells of the table between two marks, without its head."""
    match = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", README, re.DOTALL)
    assert match, name
    lines = match[1].strip().splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def request_errors() -> list[type[RequestError]]:
    return [
        value for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, RequestError) and value is not RequestError
    ]  # fmt: skip


def test_every_setting_is_in_the_table_as_it_is() -> None:
    table = {row[0].strip("`"): row[1:] for row in rows("configuration")}
    assert list(table) == [variable.name for variable in VARIABLES]
    for variable in VARIABLES:
        default, form, meaning = table[variable.name]
        assert (form, meaning) == (variable.form, variable.meaning)
        if variable.name != "ENCODE_CONCURRENCY":  # its default is the machine's
            assert default.strip("`") == variable.default


def test_every_failure_is_in_the_table_as_it_is() -> None:
    table = {row[0].strip("`"): row[1:] for row in rows("failures")}
    assert table == {
        code: ["yes" if failure.retryable else "no", failure.message] for code, failure in FAILURES.items()
    }


def test_every_error_code_is_listed_under_its_status() -> None:
    section = README.partition("### Errors")[2].partition("A failed job's")[0]
    listed = {
        code: row.split("|")[1]
        for row in section.splitlines()
        if row.startswith("| ") and "`code`" not in row
        for code in re.findall(r"`(\w+)`", row)
    }
    known = {error.code: str(int(error.status)) for error in request_errors() if error.code != "gone"}
    known |= {code: str(status) for status, (code, _) in _CODES.items() if status != 500}
    for code, status in known.items():
        assert status in listed.get(code, ""), code


def test_every_route_is_named() -> None:
    for route in ROUTES:
        path = route.path.replace("{job_id}", "ID")
        assert re.search(rf"`{route.method}`?,?.*{re.escape(path)}`|`{route.method} {re.escape(path)}`", README), path


def test_users_are_told_that_they_need_the_right() -> None:
    assert "You need the right to convert what you convert" in README.partition("## Two commands")[0]
