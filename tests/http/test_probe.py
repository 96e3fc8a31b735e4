"""`POST /probe` and `ytmp3 probe`: what YouTube offers for a video, and every refusal."""

import json
from pathlib import Path

import pytest

from tests.http.client_commands import own_environment, ytmp3
from tests.http.responses import expect_problem
from tests.http.running_service import RunningService, running_service
from ytmp3.core.errors import ConversionError, FailureCode
from ytmp3.http.keys import key_line, new_secret

__all__ = ["own_environment"]

ALICE = new_secret(b"a" * 24)
VIDEO, PRIVATE, BROKEN = "video000001", "video000002", "video000003"
FAILURES = {PRIVATE: FailureCode.PRIVATE, BROKEN: FailureCode.UPSTREAM_ERROR}


def fail(service: RunningService) -> None:
    service.converter.descriptions |= {name: ConversionError(code, "secret") for name, code in FAILURES.items()}


async def test_a_video_is_described_without_a_job(service: RunningService) -> None:
    for link in (VIDEO, f"https://youtu.be/{VIDEO}?list=PLx"):
        async with service.client.post(f"{service.url}/probe", json={"url": link}) as response:
            assert response.status == 200
            found = await response.json()
    assert (found["video_id"], found["url"]) == (VIDEO, f"https://www.youtube.com/watch?v={VIDEO}")
    assert found["metadata"]["duration_seconds"] == 240
    assert found["languages"] == [
        {"language": "en-US", "is_original": True, "formats": ["mp3", "opus"]},
        {"language": "de", "is_original": False, "formats": ["mp3"]},
    ]
    assert found["formats"][-1] == {"format": "opus", "quality": None, "bitrate_kbps": 128.0, "size_bytes": 3_840_000}
    assert {"format": "mp3", "quality": "192k", "bitrate_kbps": 192.0, "size_bytes": 5_760_000} in found["formats"]
    assert service.converter.described == [VIDEO]
    assert (await service.store.counts()).pending == 0
    async with service.client.get(f"{service.url}/metrics") as response:
        metrics = await response.text()
    assert 'ytmp3_probes_total{code="",outcome="extracted"} 1.0' in metrics
    assert 'ytmp3_probes_total{code="",outcome="cached"} 1.0' in metrics


async def test_a_probe_is_refused_with_a_code_and_the_field(service: RunningService) -> None:
    fail(service)
    for body, status, code, field in (
        ({}, 400, "invalid_field", "url"),
        ({"url": 5}, 400, "invalid_field", "url"),
        ({"link": VIDEO}, 400, "invalid_field", "url"),
        ({"url": VIDEO, "language": "de"}, 400, "invalid_field", None),
        ({"url": VIDEO * 2000}, 413, "body_too_large", None),
        ({"url": "https://example.org/"}, 422, "unsupported_url", "url"),
        ({"url": "https://www.youtube.com/@Blender"}, 422, "not_a_video", "url"),
        ({"url": PRIVATE}, 422, "private", "url"),
        ({"url": BROKEN}, 503, "upstream_error", None),
    ):
        await expect_problem(service, "POST", "/probe", status, code, json=body)
        async with service.client.post(f"{service.url}/probe", json=body) as response:
            problem = await response.json()
        assert problem.get("field") == field, body
        assert "secret" not in json.dumps(problem)


async def test_a_key_is_needed_where_keys_are_in_use(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(key_line("alice", ALICE))
    async with running_service(tmp_path / "data", API_KEYS_FILE=str(keys)) as service:
        await expect_problem(service, "POST", "/probe", 401, "unauthorized", json={"url": VIDEO})
        headers = {"X-API-Key": ALICE}
        async with service.client.post(f"{service.url}/probe", json={"url": VIDEO}, headers=headers) as response:
            assert response.status == 200


async def test_the_client_shows_what_youtube_offers(
    service: RunningService, capsys: pytest.CaptureFixture[str]
) -> None:
    fail(service)
    server = ("--server", service.url)
    assert await ytmp3("probe", VIDEO, *server) == 0
    text = capsys.readouterr().out
    for words in ("A video", "by         Someone", "duration   4:00", "en-US (original): mp3, opus", "de: mp3"):
        assert words in text
    assert "mp3 192k 192 kbit/s about 5.8 MB" in text
    assert await ytmp3("probe", PRIVATE, VIDEO, "--json", *server) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == {"link": PRIVATE, "error": {"code": "private", "message": "The video is private."}}
    assert lines[1]["video_id"] == VIDEO
