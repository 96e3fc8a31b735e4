"""The curl lines of README.md and docs/api.md work as printed, and their answers have the printed form."""

import asyncio
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from tests.documents.pages import DOCS, README, Page
from tests.fake_youtube import Kind, Spawned, spawn
from tests.stand.service_process import ServiceProcess, egress, service_process
from tests.stand.waiting import until

ADDRESS = "http://127.0.0.1:8080"
"""Where the documents' service listens; the tests' one has a free port."""


@pytest.fixture(scope="module")
def youtube(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spawned]:
    with spawn(tmp_path_factory.mktemp("youtube"), prepare=[Kind.SHORT]) as running:
        yield running


def commands(page: Page) -> list[tuple[str, dict[str, Any] | None]]:
    """Return the curl commands, each with the JSON printed behind its block if there is one."""
    blocks = page.blocks
    found: list[tuple[str, dict[str, Any] | None]] = []
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        if block.language != "bash":
            continue
        lines = [line for line in re.split(r"(?<!\\)\n", block.text) if line.startswith("curl")]
        answer = json.loads(following.text) if following is not None and following.language == "json" else None
        found += [(line, answer if line == lines[-1] else None) for line in lines]
    return found


def kinds(value: object) -> object:
    """Return the form of a JSON document: its names, and what kind of value each has."""
    match value:
        case dict():
            return {name: kinds(member) for name, member in value.items()}
        case list():
            return [kinds(member) for member in value]
        case bool():
            return "true or false"
        case int() | float():
            return "number"
        case str():
            return "text"
        case _:
            return value


async def run(command: str, service: ServiceProcess, folder: Path) -> tuple[int, bytes]:
    """Run a command as printed; return the HTTP status and the body that curl printed."""
    line = command.replace(ADDRESS, service.url)
    line = line.replace("curl ", "curl --silent --show-error --noproxy '*' --write-out '\\n%{http_code}' ", 1)
    process = await asyncio.create_subprocess_exec("sh", "-c", line, cwd=folder, stdout=subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0, command
    body, _, status = output.rpartition(b"\n")
    return int(status), body


@pytest.mark.parametrize("page", [README, DOCS["api"]], ids=lambda page: page.name)
async def test_the_curl_lines_work_as_printed(page: Page, youtube: Spawned, tmp_path: Path) -> None:
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    async with service_process(tmp_path, **egress(youtube)) as service:
        job_id, batch_id = "JOB_ID", "BATCH_ID"
        for command, printed in commands(page):
            command = command.replace("JOB_ID", job_id).replace("BATCH_ID", batch_id)  # noqa: PLW2901
            status, body = await run(command, service, downloads)
            is_refusal = printed is not None and "code" in printed
            assert status == printed["status"] if is_refusal and printed else status in {200, 202}, (command, body)
            if is_refusal:
                assert json.loads(body) == printed, command
            elif printed is not None:
                assert kinds(json.loads(body)) == kinds(printed), command
            if "/extract" in command and not is_refusal:
                job_id = json.loads(body)["job_id"]
                await service.until(job_id)
            if "-X POST" in command and "/batches" in command:
                batch_id = json.loads(body)["batch_id"]
                await _ended(f"{service.url}/batches/{batch_id}")
    beginnings = {file.read_bytes()[:3] for file in downloads.iterdir()}
    # The README downloads a track; the reference also a cover and an archive.
    assert beginnings == ({b"ID3", b"PK\x03", b"\xff\xd8\xff"} if batch_id != "BATCH_ID" else {b"ID3"})


async def _ended(batch_url: str) -> None:
    """Wait until a batch has ended."""

    async def has_ended() -> bool:
        async with ClientSession() as client, client.get(batch_url) as response:
            return (await response.json())["completed_at"] is not None

    await until(has_ended, "the batch has ended")


def test_each_document_starts_follows_and_downloads() -> None:
    for page in (README, DOCS["api"]):
        lines = " ".join(command for command, _ in commands(page))
        assert all(path in lines for path in ("/extract", "/status/", "/download/")), page.name
