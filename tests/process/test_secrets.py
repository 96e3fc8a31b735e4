"""No secret where it should not be: logs, metrics, answers, command lines, tools (goals S09, S22, P14)."""

import os
import signal
from pathlib import Path

from tests.fake_youtube import Kind, Spawned, video_id, watch_url
from tests.process.served import descendants, egress, served
from ytmp3.identity import key_line, new_secret

SECRETS = {
    "COOKIE": "cookiesecret7f3a",
    "REDIS_PASSWORD": "redissecret9c1d",
    "OTHER": "environmentsecret55e2",
}


def told(pid: int, name: str) -> str:
    """What /proc shows of a process to anyone of the same user."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


async def test_a_chaotic_run_tells_no_secret(youtube: Spawned, tmp_path: Path) -> None:
    key = new_secret(os.urandom(24))
    (tmp_path / "keys").write_text(key_line("tester", key) + "\n")
    cookies = f".youtube.com\tTRUE\t/\tTRUE\t2145916800\tSID\t{SECRETS['COOKIE']}\n"
    (tmp_path / "cookies").write_text("# Netscape HTTP Cookie File\n" + cookies)
    settings = {
        "API_KEYS_FILE": str(tmp_path / "keys"),
        "COOKIES_FILE": str(tmp_path / "cookies"),
        "REDIS_PASSWORD": SECRETS["REDIS_PASSWORD"],
        "SOME_TOKEN": SECRETS["OTHER"],
        "no_proxy": "*",
        "MAX_JOB_RETRIES": "0",
        "LOG_LEVEL": "debug",
    }
    kinds = [Kind.CLIP, Kind.SLOW, Kind.FORBIDDEN, Kind.MEDIA_500, Kind.BOT_CHECK, Kind.RANDOM, Kind.HOSTILE_TITLE]
    seen: list[str] = []
    async with served(tmp_path, **egress(youtube), **settings) as service:
        service.client.headers["X-API-Key"] = key
        jobs = [(await service.post(watch_url(video_id(kind, 900))))[1] for kind in kinds]
        cancelled = jobs[1]["job_id"]
        await service.until(cancelled, "downloading", "converting")
        for pid in descendants(service.pid):
            assert not {"no_proxy", "SOME_TOKEN", "REDIS_PASSWORD"} & {
                part.partition("=")[0] for part in told(pid, "environ").split()
            }
            seen.append(told(pid, "environ"))
        seen += [told(pid, "cmdline") for pid in {service.pid, *descendants(service.pid)}]
        async with service.client.delete(f"{service.url}/jobs/{cancelled}") as response:
            seen.append(await response.text())
        seen += [str(await service.until(job["job_id"])) for job in jobs]
        for path in ("/metrics", "/stats", "/health", "/openapi.json"):
            async with service.client.get(service.url + path) as response:
                seen.append(await response.text())
        async with service.client.get(f"{service.url}/stats", headers={"X-API-Key": "wrong-secret-given"}) as response:
            seen.append(await response.text())
        await service.stop(signal.SIGTERM)
        seen.append(service.log())
    everything = "\n".join(seen)
    for secret in (*SECRETS.values(), key, "wrong-secret-given"):
        assert secret not in everything
    assert "googlevideo.com/videoplayback?" not in everything.replace("?...", "")
    for line in service.log().splitlines():
        assert not [character for character in line if ord(character) < 0x20 or ord(character) == 0x7F], line
