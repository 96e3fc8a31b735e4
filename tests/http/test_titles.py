"""Hostile titles in the headers of downloads, through the real sender and the real server below it."""

import asyncio
from pathlib import Path

import pytest

from tests.fakes import content_of
from tests.http.download_server import download_server
from tests.http.hostile_titles import assert_is_named_safely, hostile_titles
from tests.http.responses import head_of
from tests.http.running_service import RunningService
from tests.stand.waiting import PATIENCE_SECONDS

VIDEO = "dQw4w9WgXcQ"


async def test_3000_hostile_titles_drop_no_connection_and_add_no_field(tmp_path: Path) -> None:
    titles = hostile_titles(3000)
    async with download_server(tmp_path, size_bytes=100, title_of=titles.__getitem__) as server:
        for start in range(0, len(titles), 100):
            reader, writer = await asyncio.open_connection(server.host, server.port)
            for number in range(start, start + 100):
                writer.write(f"GET /{number} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            for number in range(start, start + 100):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    head = await reader.readuntil(b"\r\n\r\n")
                    assert await reader.readexactly(100) == server.content
                assert head.startswith(b"HTTP/1.1 200 "), (titles[number], head)
                assert_is_named_safely(head_of(head))
            writer.close()


@pytest.mark.parametrize("title", ["a\r\nX-Evil: 1", "\x00\x7f\u202e", '","status":"x'])
async def test_a_track_with_a_hostile_title_is_converted_and_downloaded(service: RunningService, title: str) -> None:
    service.converter.title = title
    job = await service.completed(VIDEO)
    assert job["metadata"]["title"] == title
    async with service.client.get(service.url + job["download_url"]) as response:
        assert (response.status, await response.read()) == (200, content_of(VIDEO))
        assert "X-Evil" not in response.headers
