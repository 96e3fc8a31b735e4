"""Limits of the child processes as the kernel shows them, and what a whole service leaves behind."""

import asyncio
import contextlib
import os
import resource
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from tests.core.link_tables import ACCEPTED, REFUSED
from tests.fake_youtube import Kind, Spawned, video_id, watch_url
from tests.fuzz_factor import FUZZ_FACTOR
from tests.stand.pipeline import FFMPEG, MIB, fake_encoder, limits, running_pipeline
from tests.stand.processes import descendants, descriptor_count
from tests.stand.service_process import END_STATES, ServiceProcess, egress, service_process
from tests.stand.waiting import until
from ytmp3.converter.audio.cores import Cores
from ytmp3.converter.audio.encoder import OUTPUT_SLACK_BYTES
from ytmp3.converter.audio.ffmpeg import MEMORY_BYTES
from ytmp3.converter.sandbox.limits import OPEN_FILES
from ytmp3.converter.tools import FILE_THREADS, VERIFIERS
from ytmp3.converter.youtube.fetch import DATA_BYTES, SPOOL_SLACK_BYTES
from ytmp3.core.errors import ConversionError, FailureCode
from ytmp3.http.file_sending import READERS
from ytmp3.http.view import RENDERED_JOBS
from ytmp3.jobstore.sqlite.cache import MAX_ENTRIES
from ytmp3.storage import local, scratch
from ytmp3.storage.files import CHECKERS
from ytmp3.storage.integrity import CHECKS_AT_ONCE

FILE_BYTES = 32 * MIB


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def limits_of(pid: int) -> dict[str, str]:
    """The hard limits by name, as the kernel writes them."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]
    return {line[:26].strip(): line[47:68].strip() for line in lines}


async def test_the_kernel_confirms_every_limit_of_running_children(youtube: Spawned, tmp_path: Path) -> None:
    all_cores = os.sched_getaffinity(0)
    one_core = Cores({min(all_cores)}, max_encoders=1)
    async with running_pipeline(youtube, tmp_path, cores=one_core, max_file_bytes=FILE_BYTES) as own:
        conversion = asyncio.create_task(own.convert(video_id(Kind.STALLED, 1)))
        children = await own.until_both_children_run()
        assert os.sched_getaffinity(children["encoder"]) == {min(all_cores)}
        assert os.sched_getaffinity(children["downloader"]) == all_cores
        for name, pid in children.items():
            assert os.getpgid(pid) == pid
            assert os.getsid(pid) == own.zygote_pid != os.getsid(0)
            assert os.getpriority(os.PRIO_PROCESS, pid) == {"downloader": 10, "encoder": 19}[name]
            assert os.sched_getscheduler(pid) == os.SCHED_BATCH
            assert limits_of(pid)["Max core file size"] == "0"
            assert limits_of(pid)["Max open files"] == str(OPEN_FILES)
        usual = limits()
        encoder, downloader = limits_of(children["encoder"]), limits_of(children["downloader"])
        assert encoder["Max file size"] == str(FILE_BYTES + OUTPUT_SLACK_BYTES)
        assert downloader["Max file size"] == str(FILE_BYTES + SPOOL_SLACK_BYTES)
        assert encoder["Max address space"] == str(MEMORY_BYTES)
        assert downloader["Max data size"] == str(DATA_BYTES)
        assert encoder["Max cpu time"] == str(int(2 * usual.encode_seconds) + 1)
        assert int(downloader["Max cpu time"]) <= 2 * (usual.extract_seconds + usual.download_seconds) + 1
        for pid in children.values():
            status = status_of(pid)
            assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")  # 2: a filter
            # root keeps one capability, CAP_DAC_OVERRIDE.
            assert int(status["CapEff"], 16) & ~2 == int(status["CapPrm"], 16) & ~2 == 0
        conversion.cancel()
        await asyncio.wait([conversion])
        await own.until_no_child_is_left()


async def test_an_encoder_gets_no_link_no_id_and_no_file_but_its_output(youtube: Spawned, tmp_path: Path) -> None:
    identifier = video_id(Kind.STALLED, 2)
    async with running_pipeline(youtube, tmp_path) as own:
        conversion = asyncio.create_task(own.convert(identifier))
        pid = (await own.until_both_children_run())["encoder"]
        given = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
        assert identifier.encode() not in given
        assert b"://" not in given
        names = {part.partition(b"=")[0] for part in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")[:-1]}
        assert names == {b"PATH", b"LANG", b"HOME", b"TMPDIR", b"DENO_DIR"}
        assert Path(f"/proc/{pid}/cwd").resolve() == tmp_path / "scratch-1"
        output = str(tmp_path / "scratch-1" / "encoded.mp3")

        def files() -> set[str]:
            return {name for name in _links(pid) if name.startswith("/") and not name.startswith("/dev/")}

        # The loader of shared libraries holds one after the other for a moment.
        await until(lambda: files() == {output}, "the encoder holds no file but its output")
        assert not _sockets(pid)
        conversion.cancel()
        await asyncio.wait([conversion])


async def test_a_refused_link_costs_no_process_no_row_and_no_packet(youtube: Spawned, tmp_path: Path) -> None:
    """The whole table of refused links, through a real process."""
    async with service_process(tmp_path, **egress(youtube)) as service:
        before = await asyncio.to_thread(_connects, youtube)
        # The checks of the start have ended then.
        children, (_, stats) = {await service.only_child()}, await service.get("/stats")
        descriptors = await service.descriptors()
        codes: Counter[tuple[int, str]] = Counter()
        for link in REFUSED:
            try:
                status, answer = await service.post(link)
            except UnicodeEncodeError:
                continue
            codes[status, answer["code"]] += 1
        assert {status for status, _ in codes} <= {400, 413, 422}, codes
        assert sum(codes.values()) >= 100, codes
        # A periodic check may be running now, which is a child process for a moment.
        await until(lambda: descendants(service.pid) == children, "the processes are those that were there before")
        await service.holds_at_most(descriptors)
        assert (await service.get("/stats"))[1]["jobs"] == stats["jobs"]
        assert await asyncio.to_thread(_connects, youtube) == before
        # All accepted spellings of the link together make one conversion.
        answers = [await service.post(link) for link in ACCEPTED]
        assert {status for status, _ in answers} <= {200, 202}
        assert [job["deduplicated"] for _, job in answers].count(False) == 1
        await service.until(answers[0][1]["job_id"])


def _connects(youtube: Spawned) -> int:
    return int(youtube._ask("/counts")["connects"])


def _sockets(pid: int) -> int:
    return sum(name.startswith("socket:") for name in _links(pid))


def _links(pid: int) -> list[str]:
    """Return what the descriptors of a process are open on."""
    names = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            names.append(os.readlink(link))
    return names


EXECUTOR_THREADS = min(32, (os.cpu_count() or 1) + 4)
"""Of asyncio's own executor."""
THREADS = 4 + EXECUTOR_THREADS + sum(
    (FILE_THREADS, VERIFIERS, READERS, CHECKS_AT_ONCE, scratch.WRITERS, CHECKERS, local.READERS, local.WRITERS)
)  # fmt: skip
"""Most threads: the event loop's, the log's, the job store's two, and those of the pools, which start when needed."""
MIXED = (Kind.SHORT, Kind.SLOW, Kind.PRIVATE, Kind.RANDOM, Kind.HALF, Kind.M4A, Kind.DELAYED, Kind.HTML, Kind.MP3)


@pytest.mark.soak
async def test_mixed_ends_of_a_service_leave_nothing(youtube: Spawned, tmp_path: Path) -> None:
    """Jobs finish, fail, are cancelled and have their child processes killed. In `make soak` 1,000 jobs."""
    async with service_process(tmp_path, MAX_JOB_RETRIES="0", WORKER_POOL_SIZE="8", **egress(youtube)) as service:
        _, job = await service.post(watch_url(video_id(Kind.SHORT, 500)))
        await service.until(job["job_id"])
        zygote = {await service.only_child()}
        await mixed_ends(service, zygote, (Kind.SHORT,) * 10, first_number=1)
        if FUZZ_FACTOR > 1:
            await fill_caches(service, watch_url(video_id(Kind.SHORT, 500)))
        before = await held_at_rest(service, zygote)
        ends: Counter[str] = Counter()
        kinds = [MIXED[number % len(MIXED)] for number in range(50)]
        for batch in range(FUZZ_FACTOR):
            ends += await mixed_ends(service, zygote, kinds, first_number=501 + 50 * batch)
        assert set(ends) == {"completed", "failed", "cancelled", "children killed"}

        async def holds_no_more() -> bool:
            held = await held_by(service, zygote)
            return (
                held.descriptors <= before.descriptors + 2
                and held.descriptors_of_zygote <= before.descriptors_of_zygote
                and held.zombies == 0
            )

        after = await held_at_rest(service, zygote)
        await until(holds_no_more, f"no more descriptors and zombies than {before}; at rest there were {after}")
        print(f"{ends}; before {before}, after {after}")
        assert after.threads <= THREADS
        # Measured growth: 4 % for 50 jobs while caches are still filling, 9 % for 1,000 with full caches. No Python
        # object is left of the latter (tracemalloc), so the growth is in the allocators; a second thousand jobs adds 5
        # %.
        assert after.resident_kilobytes <= (1.15 if FUZZ_FACTOR > 1 else 1.1) * before.resident_kilobytes
        (instance,) = (tmp_path / "data" / "scratch").iterdir()
        await until(
            lambda: {path.name for path in instance.iterdir()} <= {".lock", "tools"}, "no file of a conversion is left"
        )
        assert "Traceback" not in service.log()


async def fill_caches(service: ServiceProcess, link: str) -> None:
    """Ask for a finished video as often as responses are cached, so that no cache grows afterwards."""
    for _ in range(max(RENDERED_JOBS, MAX_ENTRIES)):
        _, job = await service.post(link)
        await service.job(job["job_id"])


async def mixed_ends(
    service: ServiceProcess, zygote: set[int], kinds: Sequence[Kind], *, first_number: int
) -> Counter[str]:
    """Start a job of each kind, cancel a third, kill all children with each tenth; return how they ended."""
    links = [watch_url(video_id(kind, first_number + number)) for number, kind in enumerate(kinds)]
    jobs = [(await service.post(link))[1]["job_id"] for link in links]
    killed = 0
    cancelled = []
    for number, job_id in enumerate(jobs):
        if number % 3 == 1:
            async with service.client.delete(f"{service.url}/jobs/{job_id}") as response:
                assert response.status == 200
                # A job that had ended before keeps its status.
                cancelled += [job_id] if (await response.json())["status"] == "cancelled" else []
        if number % 10 == 9:

            async def can_kill(job_id: str = job_id) -> bool:
                has_ended = (await service.job(job_id))["status"] in END_STATES
                return has_ended or bool(descendants(service.pid) - zygote)

            await until(can_kill, "a child runs, unless the job has ended", poll_seconds=0.01)
            for pid in descendants(service.pid) - zygote:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
    ends = {job_id: (await service.until(job_id))["status"] for job_id in jobs}
    assert [job_id for job_id, status in ends.items() if status == "cancelled"] == cancelled
    await until(lambda: descendants(service.pid) == zygote, "only the zygote is left")
    return Counter(ends.values()) + Counter({"children killed": killed})


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The resources of a service."""

    descriptors: int
    descriptors_of_zygote: int
    zombies: int
    threads: int
    resident_kilobytes: int


async def held_at_rest(service: ServiceProcess, zygote: set[int]) -> Held:
    """Return what the service holds without a connection of this test."""
    await service.close_connections()
    await until(lambda: _connections(service) == 0, "the service has closed its connections")
    return await held_by(service, zygote)


def _connections(service: ServiceProcess) -> int:
    """Return how many connections the server has: established ones, or half closed (proc_net_tcp(5))."""
    port = f":{URL(service.url).port:04X}"
    rows = [row.split() for row in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    return sum(local.endswith(port) and state in {"01", "08"} for _, local, _, state, *_ in rows)


async def held_by(service: ServiceProcess, zygote: set[int]) -> Held:
    pid = service.pid
    zombies = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            zombies += fields[0] == "Z" and int(fields[1]) in {pid, *zygote}
    status = status_of(pid)
    return Held(
        descriptors=await service.descriptors(),
        descriptors_of_zygote=sum(map(descriptor_count, zygote)),
        zombies=zombies,
        threads=int(status["Threads"]),
        resident_kilobytes=int(status["VmRSS"].split()[0]),
    )


# Reports progress without end, so that neither the idle limit nor the end of the input ends it.
ENDLESS_ENCODER = "n=0\nwhile :; do n=$((n + 10000)); echo out_time_us=$n; sleep 0.1; done"


@pytest.mark.parametrize(
    ("kind", "limits", "code", "reason"),
    [
        (Kind.HANGS, {"extract_seconds": 2.0}, FailureCode.UPSTREAM_TIMEOUT, "extraction"),
        (Kind.SLOW, {"download_seconds": 1.0}, FailureCode.UPSTREAM_TIMEOUT, "download"),
        (Kind.SHORT, {"encode_seconds": 1.0}, FailureCode.TOOL_MISSING, "the encoder takes too long"),
        (Kind.STALLED, {"idle_seconds": 1.0}, FailureCode.UPSTREAM_TIMEOUT, "no or next to no bytes arrive"),
    ],
)
async def test_every_step_of_a_conversion_has_a_time_limit(
    youtube: Spawned, tmp_path: Path, kind: Kind, limits: dict[str, Any], code: FailureCode, reason: str
) -> None:
    """Only this limit is short, so that the others cannot end the conversion on a busy machine."""
    encoder = fake_encoder(tmp_path, ENDLESS_ENCODER)
    async with running_pipeline(youtube, tmp_path, ffmpeg=encoder, **limits) as own:
        begun_at = time.monotonic()
        with pytest.raises(ConversionError) as failure:
            await own.convert(video_id(kind, 720))
        assert (failure.value.code, failure.value.reason) == (code, reason)
        assert time.monotonic() - begun_at >= min(limits.values())
        await own.until_no_child_is_left()


async def test_a_child_that_cannot_be_started_fails_one_conversion_only(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path) as own:
        zygote_pid = own.zygote_pid
        usual = resource.prlimit(own.zygote_pid, resource.RLIMIT_NOFILE)
        # A limit on processes does not bind root. Without a descriptor for its child, the zygote cannot start one
        # either.
        resource.prlimit(own.zygote_pid, resource.RLIMIT_NOFILE, (4, usual[1]))
        with pytest.raises(ConversionError) as failure:
            await own.convert(video_id(Kind.SHORT, 700))
        assert failure.value.failure.retryable
        resource.prlimit(own.zygote_pid, resource.RLIMIT_NOFILE, usual)
        assert (await own.convert(video_id(Kind.SHORT, 701))).size_bytes
        assert own.zygote_pid == zygote_pid


@pytest.mark.parametrize("victim", ["program", "zygote"])
async def test_a_check_whose_program_or_zygote_is_killed_says_nothing_of_the_tools(
    youtube: Spawned, tmp_path: Path, victim: str
) -> None:
    """The check runs the program again: otherwise the instance would start nothing until the next check."""
    begun = tmp_path / "begun"
    first_waits = f'[ "$1" = -version ] || [ -e {begun} ] || {{ : > {begun}; exec sleep 60; }}'
    ffmpeg = fake_encoder(tmp_path, f'{first_waits}\nexec {FFMPEG} "$@"')
    async with running_pipeline(youtube, tmp_path, ffmpeg=ffmpeg) as own:
        checking = asyncio.create_task(own.pipeline.check())
        await until(begun.exists, "the check encodes", poll_seconds=0.01)
        for pid in {own.zygote_pid} if victim == "zygote" else own.children:
            os.kill(pid, signal.SIGKILL)
        assert not [check for check in await checking if not check.ok]


async def test_a_missing_ffmpeg_is_named_and_works_again_when_it_is_back(youtube: Spawned, tmp_path: Path) -> None:
    path = tmp_path / "ffmpeg"
    path.symlink_to(FFMPEG)
    async with running_pipeline(youtube, tmp_path, ffmpeg=path) as own:
        assert (await own.convert(video_id(Kind.SHORT, 710))).size_bytes
        path.unlink()
        with pytest.raises(ConversionError) as failure:
            await own.convert(video_id(Kind.SHORT, 711))
        assert failure.value.code is FailureCode.TOOL_MISSING
        assert [check.name for check in await own.pipeline.check() if not check.ok] == ["ffmpeg"]
        path.symlink_to(FFMPEG)
        assert (await own.convert(video_id(Kind.SHORT, 712))).size_bytes
