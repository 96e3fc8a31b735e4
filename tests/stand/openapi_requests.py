"""Requests that schemathesis makes from the OpenAPI document of a running service; it checks the responses, too."""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.http.running_service import RunningService
from tests.stand import openapi_check
from tests.stand.waiting import PATIENCE_SECONDS, until

Case = schemathesis.Case[Any]
Operation = APIOperation[Any, Any, Any, Any]
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Ids:
    """Things that exist: a completed job, a cancelled one, and a completed batch."""

    kept: str
    cancelled: str
    batch: str


LINK = "https://youtu.be/dQw4w9WgXcQ"


async def answers_are_as_documented(
    service: RunningService, url: str, folder: Path, *, examples: int, unserved: Sequence[str] = ()
) -> Counter[tuple[str, int]]:
    """Request all that the document at `url` describes, except the paths in `unserved`. Responses must be documented.

    First the command of schemathesis tries each value at its limits, and each method (its coverage phase). Then
    `examples` random requests are made for each operation with parameters or a body. Returns how often these random
    requests got each status, by method.
    """
    # Both jobs share a conversion, so the cancelled one stays for as long as the other.
    jobs = await asyncio.gather(*(service.submit("kept_______") for _ in range(2)))
    kept, cancelled = [(await service.ended(job["job_id"]))["job_id"] for job in jobs]
    batch = await _batch(service)
    await _limits(url, folder, Ids(kept, cancelled, batch), unserved)
    return await asyncio.to_thread(_random, url, Ids(kept, cancelled, batch), examples)


async def _batch(service: RunningService) -> str:
    """Create a batch, and return its id once it has ended, so that it has an archive."""
    async with service.client.post(f"{service.url}/batches", json={"urls": [LINK]}) as response:
        assert response.status == 202
        path = (await response.json())["status_url"]

    async def has_ended() -> bool:
        async with service.client.get(service.url + path) as response:
            return (await response.json())["completed_at"] is not None

    await until(has_ended, "the batch has ended", poll_seconds=0.03)
    return str(path.rpartition("/")[2])


async def _limits(url: str, folder: Path, ids: Ids, unserved: Sequence[str]) -> None:
    config = folder / "schemathesis.toml"
    config.write_text(
        f'hooks = "{openapi_check.__name__}"\n'
        f'[parameters]\n"path.job_id" = "{ids.kept}"\n"path.batch_id" = "{ids.batch}"\n'
        f'[[operations]]\ninclude-method = "DELETE"\nparameters = {{ "path.job_id" = "{ids.cancelled}" }}\n'
    )
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("st")),
        *("--config-file", str(config), "run", f"{url}/openapi.json", "--phases", "coverage", "--checks", "all"),
        *("--exclude-checks", "positive_data_acceptance", "--seed", "1", "--no-color", "--warnings", "off"),
        *(
            "--request-timeout",
            str(PATIENCE_SECONDS),
            *(word for path in unserved for word in ("--exclude-path", path)),
        ),
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()[-6000:]


def _random(url: str, ids: Ids, examples: int) -> Counter[tuple[str, int]]:
    """Make random requests in this process: the command takes five times as long for each."""
    answered: Counter[tuple[str, int]] = Counter()

    def about_something(case: Case) -> Case:
        """Put in what random data never contains: the id of an existing job, or a link."""
        if "batch_id" in case.path_parameters:
            case.path_parameters["batch_id"] = ids.batch
        if "job_id" in case.path_parameters:
            case.path_parameters["job_id"] = ids.cancelled if case.method == "DELETE" else ids.kept
        if "jobs" in case.query:
            case.query["jobs"] = ids.kept
        match case.path:
            case "/extract":
                case.body = {"url": LINK}
            case "/batches":
                case.body = {"urls": [LINK]}
            case _:
                pass
        return case

    def about_another_version(case: Case) -> Case:
        """Ask for a version of an existing thing that it does not have."""
        case.headers["If-Match"] = '"another"'
        return about_something(case)

    def ask(operation: Operation, session: requests.Session) -> None:
        right, wrong = (operation.as_strategy(generation_mode=mode) for mode in schemathesis.GenerationMode)

        @given(st.one_of(right, right.map(about_something), right.map(about_another_version), wrong))
        @settings(max_examples=examples, suppress_health_check=list(HealthCheck))
        def check(case: Case) -> None:
            response = case.call(session=session, timeout=PATIENCE_SECONDS)
            case.validate_response(response, excluded_checks=[positive_data_acceptance])
            answered[operation.method, response.status_code] += 1

        check()

    with requests.Session() as session:
        for result in schemathesis.openapi.from_url(f"{url}/openapi.json").get_all_operations():
            assert isinstance(result, Ok)
            operation = result.ok()
            if operation.path_parameters or operation.body:
                ask(operation, session)
    return answered
