"""`GET /ytmp3.pyz`: the client as one file, run by a Python that has nothing but its standard library."""

import asyncio
import hashlib
import io
import os
import sys
import zipfile
from pathlib import Path

import pytest

from tests.fakes import content_of
from tests.http.running_service import running_service
from ytmp3.http.program import program

VIDEO = "video000001"


async def run_program(folder: Path, *arguments: str) -> tuple[int | None, str, str]:
    """Run the file in `folder` without site packages and without this checkout; return exit code and output."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-S", "-I", "ytmp3.pyz", *arguments),
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "XDG_CACHE_HOME": str(folder)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


async def test_the_client_from_a_service_converts_with_it(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data") as service:
        async with service.client.get(f"{service.url}/ytmp3.pyz") as response:
            assert response.status == 200
            assert response.headers["Content-Disposition"] == 'attachment; filename="ytmp3.pyz"'
            body, etag = await response.read(), response.headers["ETag"]
        assert etag == f'"{hashlib.sha256(body).hexdigest()}"'
        async with service.client.get(f"{service.url}/ytmp3.pyz", headers={"If-None-Match": etag}) as response:
            assert (response.status, response.headers["ETag"], await response.read()) == (304, etag, b"")
        async with service.client.head(f"{service.url}/ytmp3.pyz") as response:
            assert (response.status, response.content_length) == (200, len(body))
        (tmp_path / "ytmp3.pyz").write_bytes(body)
        code, output, errors = await run_program(tmp_path, "get", VIDEO, "--server", service.url)
        assert code == 0, errors
        assert (tmp_path / output.strip()).read_bytes() == content_of(VIDEO)
        # It has no service inside.
        code, _, errors = await run_program(tmp_path, "get", VIDEO, "--private")
        assert code == 3
        assert "name one with --server" in errors


async def test_the_client_uses_the_public_address_of_its_service(tmp_path: Path) -> None:
    async with running_service(tmp_path / "data") as service:
        (tmp_path / "ytmp3.pyz").write_bytes(program(service.url))
        code, _, errors = await run_program(tmp_path, "get", VIDEO)
        assert code == 0, errors


async def test_the_client_is_served_without_a_key(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"alice {'0' * 64}\n")
    url = "https://music.example/ytmp3"
    async with (
        running_service(tmp_path / "data", API_KEYS_FILE=str(tmp_path / "keys"), PUBLIC_URL=url) as service,
        service.client.get(f"{service.url}/ytmp3.pyz") as response,
    ):
        assert await response.read() == program(url)


def test_the_file_has_only_the_client_and_the_same_bytes_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    content = program()
    assert content == program()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert names[:2] == ["__main__.py", "ytmp3/__init__.py"]
    assert all(name.startswith("ytmp3/client/") for name in names[2:])
    assert "ytmp3/client/commands.py" in names
