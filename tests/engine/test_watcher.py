"""The watcher: its results are in the health state."""

import asyncio
import logging
from pathlib import Path

import pytest

from tests.engine.rig import Rig, engine
from tests.virtual_time import settled
from ytmp3.converter import ToolCheck
from ytmp3.core.errors import FailureCode, StoreDown, StoreUnusable
from ytmp3.engine import events
from ytmp3.engine.health import Health, Readiness
from ytmp3.engine.watcher import TOOLS_RETRY_SECONDS, TOOLS_SECONDS

BROKEN = ToolCheck(name="ffmpeg", ok=False, version=None, detail="not found")
WORKING = ToolCheck(name="ffmpeg", ok=True, version="7", detail="works")

SOLVER = ToolCheck(name="yt-dlp-ejs", ok=True, version="0.8.0", detail="is the one yt-dlp wants")


def readiness(now: Rig) -> Readiness:
    return now.parts.health.readiness


async def test_the_health_state_shows_what_was_seen_last(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        health, watcher = now.parts.health, now.parts.watcher
        await watcher.watch()
        assert health.store.ok
        now.store.broken["ping"] = StoreUnusable("maxmemory-policy is allkeys-lru")
        await watcher.watch()
        assert not health.store.ok
        assert health.store.detail == "maxmemory-policy is allkeys-lru"
        now.store.broken["ping"] = StoreDown()
        await watcher.watch()
        assert health.store.detail == "StoreDown"
        now.store.broken.clear()
        await watcher.watch()
        assert health.store.ok


async def test_an_outage_of_the_store_is_one_line_and_its_end_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with engine(tmp_path) as now:
        for error in (None, StoreDown("refused"), StoreDown("circuit breaker open"), StoreDown("refused"), None):
            now.store.broken.clear()
            if error is not None:
                now.store.broken["ping"] = error
            await now.parts.watcher.watch()
    lines = [vars(record) for record in caplog.records if record.message == "job store"]
    assert [(line["ok"], line["detail"]) for line in lines] == [
        (True, "answers"),
        (False, "refused"),
        (True, "answers"),
    ]


def test_an_instance_that_has_checked_nothing_yet_is_not_ready() -> None:
    health = Health()
    assert health.readiness is Readiness.UNREADY
    assert {name for name, check in health.checks.items() if not check.ok} == {"store", "storage", "tools"}
    assert Health(is_draining=True).readiness is Readiness.DRAINING


async def test_records_that_cannot_be_used_degrade_the_instance_and_are_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with engine(tmp_path) as now:
        now.parts.health.tools = [WORKING]
        for fault, expected in (("key x is a string", Readiness.DEGRADED), (None, Readiness.OK)):
            now.store.fault = fault
            for _ in range(2):
                await now.parts.watcher.watch()
            assert readiness(now) is expected
            assert now.parts.health.checks["records"].ok == (fault is None)
    lines = [vars(record) for record in caplog.records if record.message == "job store: records"]
    assert [(line["levelname"], line["detail"]) for line in lines] == [
        ("ERROR", "key x is a string"), ("INFO", "can be used"),
    ]  # fmt: skip


async def test_a_broken_tool_is_checked_more_often_until_it_works(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        now.converter.tools = [BROKEN]
        now.parts.watcher.start()
        await settled()
        assert readiness(now) is Readiness.UNREADY
        now.converter.tools = [WORKING]
        await asyncio.sleep(TOOLS_RETRY_SECONDS - 1)
        assert now.parts.health.tools == [BROKEN]
        await asyncio.sleep(2)
        assert readiness(now) is Readiness.OK
        now.converter.tools = [BROKEN]
        await asyncio.sleep(TOOLS_SECONDS - 10)
        assert readiness(now) is Readiness.OK
        await asyncio.sleep(20)
        assert readiness(now) is Readiness.UNREADY
        await now.parts.watcher.close()


async def test_a_tool_that_a_failed_attempt_found_broken_is_checked_again_soon(tmp_path: Path) -> None:
    """The instance starts nothing until then."""
    async with engine(tmp_path) as now:
        now.converter.tools = [WORKING]
        now.parts.watcher.start()
        await asyncio.sleep(1)
        now.converter.tools = [BROKEN]
        await now.parts.checks.after_failure(FailureCode.TOOL_MISSING)
        assert readiness(now) is Readiness.UNREADY
        now.converter.tools = [WORKING]
        await asyncio.sleep(TOOLS_RETRY_SECONDS)
        assert readiness(now) is Readiness.OK
        await now.parts.watcher.close()


async def test_working_tools_are_one_line_of_the_log_and_a_broken_one_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with engine(tmp_path) as now:
        for tools in ([WORKING, SOLVER], [BROKEN, SOLVER], [WORKING, SOLVER]):
            now.converter.tools = list(tools)
            if not caplog.records:
                now.parts.health.tools = []
            await now.parts.checks.tools.look()
    lines = [vars(record) for record in caplog.records if record.message.startswith("tool")]
    assert [(line["message"], line["levelname"], line["ok"]) for line in lines] == [
        ("tools", "INFO", True), ("tool", "ERROR", False), ("tool", "INFO", True),
    ]  # fmt: skip
    assert (lines[0]["ffmpeg"], lines[0]["yt-dlp-ejs"]) == ("7", "0.8.0")


async def test_the_lag_of_the_event_loop_is_measured_ten_times_a_second(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        now.parts.watcher.start()
        await asyncio.sleep(10)
        await now.parts.watcher.close()
        assert 95 <= len(now.seen(events.LoopLagged)) <= 100
