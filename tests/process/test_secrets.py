"""No secret appears in logs, metrics, responses, command lines or the environments of child processes."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_youtube import Kind, Spawned, video_id, watch_url
from tests.stand.package_index import package_index
from tests.stand.ports import free_port
from tests.stand.processes import descendants
from tests.stand.service_process import ROOT, ServiceProcess, service_process
from tests.stand.valkey import Valkey
from tests.stand.waiting import until
from ytmp3.http.keys import key_line, new_secret

SECRETS = {
    "COOKIE": "cookiesecret7f3a",
    "REDIS_PASSWORD": "redissecret9c1d",
    "PROXY_USER": "proxyuser0b8e",
    "PROXY_PASSWORD": "proxysecret4e6a",
    "OTHER": "environmentsecret55e2",
    "S3": "objectstoresecret21fc",
    "LINK": "linksecret77aa" * 3,
    "INDEX_USER": "indexuser61bd",
    "INDEX_PASSWORD": "indexsecret3fe0",
}


def proc_file(pid: int, name: str) -> str:
    """Return what /proc shows of a process to every process of the same user; nothing if the process has ended."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def with_credentials(proxy_url: str) -> str:
    return proxy_url.replace("://", f"://{SECRETS['PROXY_USER']}:{SECRETS['PROXY_PASSWORD']}@")


def index_url(port: int) -> str:
    return f"http://{SECRETS['INDEX_USER']}:{SECRETS['INDEX_PASSWORD']}%21@127.0.0.1:{port}/simple"


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Valkey]:
    server = Valkey(tmp_path, settings={"requirepass": SECRETS["REDIS_PASSWORD"], "maxmemory-policy": "noeviction"})
    server.start()
    try:
        yield server
    finally:
        server.stop()


async def responses_without_store(service: ServiceProcess) -> list[str]:
    """Return the responses of a service whose job store cannot be used, once it has noticed."""
    await service.until_health(503)
    return [await text_of(service, path) for path in ("/metrics", "/stats", "/health", f"/status/{'0' * 34}")]


async def text_of(service: ServiceProcess, path: str, **headers: str) -> str:
    async with service.client.get(service.url + path, headers=headers) as response:
        return await response.text()


async def test_a_run_with_many_failures_reveals_no_secret(youtube: Spawned, redis: Valkey, tmp_path: Path) -> None:
    key = new_secret(os.urandom(24))
    (tmp_path / "keys").write_text(key_line("tester", key) + "\n")
    cookies = f".youtube.com\tTRUE\t/\tTRUE\t2145916800\tSID\t{SECRETS['COOKIE']}\n"
    (tmp_path / "cookies").write_text("# Netscape HTTP Cookie File\n" + cookies)
    settings = {
        "API_KEYS_FILE": str(tmp_path / "keys"),
        "COOKIES_FILE": str(tmp_path / "cookies"),
        "REDIS_ADDR": redis.address,
        "REDIS_PASSWORD": SECRETS["REDIS_PASSWORD"],
        "EGRESS_PROXY": with_credentials(youtube.proxy_url),
        "EGRESS_CA_FILE": str(youtube.ca_file),
        "SOME_TOKEN": SECRETS["OTHER"],
        "S3_SECRET_ACCESS_KEY": SECRETS["S3"],
        "LINK_SECRET": SECRETS["LINK"],
        "YTDLP_INDEX": index_url(free_port()),
        "no_proxy": "*",
        "MAX_JOB_RETRIES": "0",
        "LOG_LEVEL": "debug",
    }
    kinds = [Kind.CLIP, Kind.STALLED, Kind.FORBIDDEN, Kind.MEDIA_500, Kind.BOT_CHECK, Kind.RANDOM, Kind.HOSTILE_TITLE]
    seen: list[str] = []
    async with service_process(tmp_path, **settings) as service:
        service.client.headers["X-API-Key"] = key
        jobs = [await service.submit(watch_url(video_id(kind, 900))) for kind in kinds]
        cancelled = jobs[1]["job_id"]
        await service.until(cancelled, "downloading")
        for pid in descendants(service.pid):
            assert not {"no_proxy", "SOME_TOKEN", "REDIS_PASSWORD", "EGRESS_PROXY"} & {
                part.partition("=")[0] for part in proc_file(pid, "environ").split()
            }
            seen.append(proc_file(pid, "environ"))
        seen += [proc_file(pid, "cmdline") for pid in {service.pid, *descendants(service.pid)}]
        async with service.client.delete(f"{service.url}/jobs/{cancelled}") as response:
            seen.append(await response.text())
        ended = [await service.until(job["job_id"]) for job in jobs]
        assert ended[0]["status"] == "completed"  # through the proxy, and with the password
        seen += map(str, ended)
        seen += [await text_of(service, path) for path in ("/metrics", "/stats", "/health", "/openapi.json")]
        seen.append(await text_of(service, "/stats", **{"X-API-Key": "wrong-secret-given"}))
        # Redis is gone, then refuses the password: both are logged and reported.
        redis.stop()
        seen += await responses_without_store(service)
        redis.settings["requirepass"] = "another"
        redis.start()
        await until(lambda: "WRONGPASS" in service.log(), "the log says that Redis refuses the password")
        seen += await responses_without_store(service)
        await service.stop(signal.SIGTERM)
        seen.append(service.log())
    everything = "\n".join(seen)
    for secret in (*SECRETS.values(), key, "wrong-secret-given"):
        assert secret not in everything
    assert "googlevideo.com/videoplayback?" not in everything.replace("?...", "")
    for line in service.log().splitlines():
        assert not [character for character in line if ord(character) < 0x20 or ord(character) == 0x7F], line


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_a_proxy_that_cannot_be_reached_is_not_named_with_its_password(
    youtube: Spawned, tmp_path: Path, scheme: str
) -> None:
    proxy = with_credentials(f"{scheme}://127.0.0.1:{free_port()}")
    settings = {"EGRESS_PROXY": proxy, "EGRESS_CA_FILE": str(youtube.ca_file), "MAX_JOB_RETRIES": "0"}
    async with service_process(tmp_path, **settings, LOG_LEVEL="debug") as service:
        _, job = await service.post(watch_url(video_id(Kind.CLIP, 901)))
        # The job does not fail while YouTube cannot be reached; it names the reason and waits.
        await service.until_event("queued again at no cost")
        waiting = await service.job(job["job_id"])
        assert waiting["error"]["code"] == "upstream_unreachable"
        seen = [str(waiting), *(proc_file(pid, "environ") for pid in descendants(service.pid))]
        seen += [proc_file(pid, "cmdline") for pid in {service.pid, *descendants(service.pid)}]
        seen += [await text_of(service, path) for path in ("/metrics", "/stats", "/health")]
        await service.stop(signal.SIGTERM)
        seen.append(service.log())
    assert "queued again at no cost" in seen[-1]
    for text in seen:
        assert SECRETS["PROXY_PASSWORD"] not in text
        assert SECRETS["PROXY_USER"] not in text


async def extractor_output(data: Path, index: str, *arguments: str) -> tuple[int, str]:
    """Return the exit code of `ytmp3 extractor`, and everything that it prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ytmp3", "extractor", *arguments),
        cwd=ROOT,
        env=os.environ | {"DATA_DIR": str(data), "YTDLP_INDEX": index, "LOG_LEVEL": "debug"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await process.communicate()
    return process.returncode or 0, printed.decode()


async def test_the_extractor_command_does_not_print_the_login_of_the_index(tmp_path: Path) -> None:
    with package_index() as index:
        port = int(index.url.rpartition(":")[2].partition("/")[0])
        index.authorization = "something else"
        outputs = await asyncio.gather(
            extractor_output(tmp_path / "refused", index_url(port), "try", "2026.11.1"),
            extractor_output(tmp_path / "closed", index_url(free_port()), "use", "2026.11.1"),
            extractor_output(tmp_path / "no-port", index_url(port).replace(f":{port}", ""), "use", "2026.11.1"),
            extractor_output(tmp_path / "wrong", index_url(port) + "?query", "use", "stable"),
            extractor_output(tmp_path / "list", index_url(port), "list"),
        )
    assert [code for code, _ in outputs] == [3, 3, 3, 2, 0]
    assert "HTTP 401" in outputs[0][1]
    for _, printed in outputs:
        for secret in (SECRETS["INDEX_USER"], SECRETS["INDEX_PASSWORD"]):
            assert secret not in printed
