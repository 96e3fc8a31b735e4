"""What must hold after each round of faults, and at the end. Each check adds a line to the violations of the round."""

import asyncio
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, fields
from typing import Any, Final

from scripts.cluster_chaos.faults import Harm
from scripts.cluster_chaos.installation import LEASE_SECONDS, Installation
from scripts.cluster_chaos.load import Accepted, Load
from tests.stand.failures import ask, until_nothing_is_left
from tests.stand.service_process import END_STATES
from tests.stand.waiting import until
from ytmp3.converter.audio.broken import BrokenError, CutError
from ytmp3.converter.audio.mp3 import walk
from ytmp3.core.ids import InstanceId
from ytmp3.core.job import conversion_id_of
from ytmp3.engine.health import Health
from ytmp3.engine.settings import EngineSettings
from ytmp3.engine.sweep import Sweep
from ytmp3.jobstore.redis import RedisJobStore, RedisSettings
from ytmp3.jobstore.settings import Policy, RedisTimeouts
from ytmp3.storage.s3 import S3Shelf

JOB_SECONDS: Final = 300.0
"""How long a round waits for its jobs after the installation has healed: for a lease, and for a busy machine."""
TRACK_SECONDS: Final = 4.0
"""Length of each video."""
TOLERANCE_SECONDS: Final = 0.2
AT_ONCE: Final = 8
_CAUSES: Final = (
    "retry scheduled",
    "queued again at no cost",
    "conversion given back",
    "lease lost: nothing was published",
)
"""The log events with which an attempt ends that another one follows."""


@dataclass(slots=True, kw_only=True)
class Figures:
    """Of one round, or of all rounds of a fault."""

    promoted: int = 0
    """Replicas that became primaries. A busy machine may cause more than the fault: their losses are not explained."""
    accepted: int = 0
    videos: int = 0
    refused: int = 0
    unreplicated: int = 0
    """Acknowledged jobs that Redis itself has lost."""
    unknown: int = 0
    """Responses 404 for these jobs."""
    reverted: int = 0
    """Jobs that were shown as completed and then as unfinished, because Redis itself has lost the last write."""
    surplus: int = 0
    """Extractions beyond the first of each video."""
    explained: int = 0
    """Attempts that were taken over, repeated or given back, and conversions of lost jobs: each explains a surplus."""
    swept: int = 0
    """Objects without a record, which the sweep has removed at the end."""
    seconds: float = 0.0
    violations: list[str] = field(default_factory=list)

    def add(self, other: "Figures") -> None:
        """Add the figures of a round."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The jobs of a round, at their ends."""

    shown: Mapping[str, dict[str, Any]]
    lost: list[Accepted]
    """Those that no instance knows."""


async def until_ended(load: Load) -> Ended:
    """Follow all jobs of the round to their ends, each at several instances."""
    shown: dict[str, dict[str, Any]] = {}
    lost: list[Accepted] = []
    slots = asyncio.Semaphore(AT_ONCE)

    async def follow(job: Accepted) -> None:
        async def has_ended() -> bool:
            async with slots:
                before = len(load.unknown)
                body = await load.status(job, load.chance.choice(load.its.urls))
                if body is not None and body["status"] in END_STATES:
                    shown[job.job_id] = body
                    return True
                if len(load.unknown) > before and await _is_unknown_everywhere(load, job):
                    lost.append(job)
                    return True
            return False

        await until(has_ended, f"job {job.job_id} ends", seconds=JOB_SECONDS, poll_seconds=0.5)

    results = await asyncio.gather(*map(follow, load.of_round()), return_exceptions=True)
    for result in results:
        if isinstance(result, AssertionError):
            load.unexpected.append(str(result))
        elif isinstance(result, BaseException):
            raise result
    return Ended(shown=shown, lost=lost)


async def _is_unknown_everywhere(load: Load, job: Accepted) -> bool:
    for service in load.its.instances:
        status, _ = await ask(load.client, "GET", f"{service.url}/status/{job.job_id}")
        if status != 404:
            return False
    return True


class Repeats:
    """Counts, from the logs and at YouTube, how often each video of an installation was extracted and converted."""

    def __init__(self, its: Installation) -> None:
        self._its = its
        self._extractions: dict[str, int] = {}
        """Those of earlier rounds, by video."""
        self._causes: Counter[str] = Counter()
        """What explains another attempt, in earlier rounds, by video."""
        self._adopted = 0
        """Conversions that instances had taken over from others before this round."""
        self._changeable: set[str] = set()
        """Videos of which Redis itself may have lost a write, in any round."""

    async def check(self, jobs: Iterable[Accepted], harm: Harm, found: Figures) -> None:
        """Check that each video of a round was extracted and converted once, unless an attempt was lost."""
        videos = {job.video for job in jobs}
        self._changeable |= {job.video for job in jobs if harm.may_change(job.job_id)}
        await asyncio.to_thread(self._check, videos, found)

    def _check(self, videos: set[str], found: Figures) -> None:
        started: Counter[str] = Counter()
        causes: Counter[str] = Counter()
        conversions: defaultdict[str, set[str]] = defaultdict(set)
        finished: Counter[str] = Counter()
        adopted = 0
        for service in self._its.instances:
            for event in service.events("conversion started"):
                started[event["video_id"]] += 1
                conversions[event["video_id"]].add(event["conversion_id"])
            finished.update(event["conversion_id"] for event in service.events("conversion done"))
            adopted += sum(event["conversions"] for event in service.events("conversions adopted"))
            for name in _CAUSES:
                causes.update(event["video_id"] for event in service.events(name))
        for video in videos:
            count = self._its.youtube.counts(video).extractions
            found.surplus += max(0, count - max(1, self._extractions.get(video, 0)))
            self._extractions[video] = count
            if count > started[video]:
                found.violations.append(f"video {video}: {count} extractions in {started[video]} attempts")
            if video in self._changeable:
                causes[video] += len(conversions[video]) - 1
                continue
            if len(conversions[video]) > 1:
                found.violations.append(f"video {video} has several conversions: {conversions[video]}")
            if any(finished[each] > 1 for each in conversions[video]):
                found.violations.append(f"video {video} was converted twice")
        found.explained = adopted - self._adopted + (causes - self._causes).total()
        self._adopted, self._causes = adopted, causes
        if found.surplus > found.explained:
            found.violations.append(f"{found.surplus} surplus extractions, of which {found.explained} are explained")


async def check_round(load: Load, harm: Harm, ended: Ended, repeats: Repeats) -> Figures:
    """Check all jobs of a round. Empties the lists of the load."""
    jobs = load.of_round()
    found = Figures(accepted=len(jobs), videos=len({job.video for job in jobs}), refused=load.refused.total())
    found.violations += load.unexpected
    _count_losses(load, harm, ended, found)
    for job in ended.shown.values():
        if job["status"] != "completed":
            found.violations.append(f"job {job['job_id']} has ended as {job['status']}: {job['error']}")
    found.violations += await _broken_downloads(load, ended)
    await repeats.check(jobs, harm, found)
    for each in (load.unexpected, load.unknown, load.reverted, load.refused):
        each.clear()
    return found


def _count_losses(load: Load, harm: Harm, ended: Ended, found: Figures) -> None:
    """Count what Redis itself has lost; anything else that was lost is a violation."""
    lost = {job.job_id: job for job in ended.lost}
    for job_id, job in lost.items():
        if harm.explains(job_id, job.sent_at):
            found.unreplicated += 1
        else:
            found.violations.append(f"job {job_id} is lost, though it was replicated")
        del load.accepted[job_id]
    for job_id in load.unknown:
        if job_id in lost:
            found.unknown += 1
        else:
            found.violations.append(f"404 for job {job_id}, which exists")
    for job_id in load.reverted:
        if harm.may_change(job_id):
            found.reverted += 1
        else:
            found.violations.append(f"job {job_id} was completed and then unfinished")


async def _broken_downloads(load: Load, ended: Ended) -> list[str]:
    """Download the track of every job from any instance; return what is wrong."""
    slots = asyncio.Semaphore(AT_ONCE)
    wrong: list[str] = []

    async def download(job: dict[str, Any]) -> None:
        url = load.chance.choice(load.its.urls)
        async with slots, load.client.get(url + job["download_url"]) as response:
            content = await response.read()
        name = f"the track of job {job['job_id']}"
        if response.status != 200:
            wrong.append(f"{name}: {response.status} {content[:200]!r}")
        elif hashlib.sha256(content).hexdigest() != job["file"]["sha256"]:
            wrong.append(f"{name} is not what its record says")
        else:
            try:
                seconds = walk(content).duration_seconds
            except (BrokenError, CutError) as error:
                wrong.append(f"{name} is not whole: {error}")
            else:
                if abs(seconds - TRACK_SECONDS) > TOLERANCE_SECONDS:
                    wrong.append(f"{name} has {seconds:.2f} s")

    await asyncio.gather(*(download(job) for job in ended.shown.values() if job["status"] == "completed"))
    return wrong


async def check_later(load: Load) -> list[str]:
    """Check that every job of all rounds is still completed, except those that were lost in their round."""
    wrong: list[str] = []
    slots = asyncio.Semaphore(AT_ONCE)

    async def look(job: Accepted) -> None:
        url = f"{load.chance.choice(load.its.instances).url}/status/{job.job_id}"
        async with slots:
            status, body = await ask(load.client, "GET", url)
        if status != 200 or body["status"] != "completed":
            wrong.append(f"job {job.job_id} of round {job.round + 1} is no longer completed: {status} {body}")

    await asyncio.gather(*(look(job) for job in load.accepted.values() if job.status == "completed"))
    return wrong


async def check_end(its: Installation, total: Figures) -> None:
    """Check what is left of all rounds: processes, scratch files, unfinished records, and objects without a record."""
    for number, service in enumerate(its.instances):
        try:
            await until_nothing_is_left(service, its.data_dir(number))
        except (AssertionError, ValueError) as error:
            total.violations.append(f"instance {number}: {error or 'Traceback in its log'}")
    policy = Policy(lease_seconds=LEASE_SECONDS, retention_seconds=86_400.0, crash_limit=3)
    timeouts = RedisTimeouts(handler_seconds=30.0, worker_seconds=30.0)
    store = RedisJobStore(RedisSettings(address=its.redis_address), policy, InstanceId("chaos"), timeouts=timeouts)
    shelf = S3Shelf(its.s3.settings(its.prefix))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        await store.open()
        await shelf.open()
        counts = await store.counts()
        if counts.pending or counts.processing:
            total.violations.append(f"unfinished jobs are left: {counts}")
        settings = EngineSettings(workers=1, queue_capacity=1, max_retries=0, client_max_jobs=0, stray_file_seconds=0.0)
        sweep = Sweep(settings, store=store, shelf=shelf, health=Health())
        assert await sweep.sweep() == 0
        total.swept = await sweep.sweep()
        names = await shelf.names(older_than_seconds=0.0)
        # An instance may be checking the object store with an object of its own.
        strays = frozenset(filter(conversion_id_of, names)) - await store.known_files(names)
        if strays:
            total.violations.append(f"objects without a record after the sweep: {sorted(strays)}")
