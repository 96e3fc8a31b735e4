"""Events: each thing that happens is emitted once, and metrics, log lines and counts follow from it."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from tests.engine.rig import OTHER, SOMEONE, engine, never, video
from tests.virtual_time import settled
from ytmp3.core.errors import FailureCode, StoreDown
from ytmp3.engine import events
from ytmp3.engine.events import Events
from ytmp3.http.stats import Tally
from ytmp3.jobstore import Outcome
from ytmp3.metrics import Metrics

VIDEO = video(1)


def sample(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0


async def test_the_events_of_a_conversion_come_in_order(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        now.converter.fail(VIDEO, FailureCode.UPSTREAM_ERROR)
        job = await now.submit(VIDEO)
        await now.ended(job)
        kinds = [type(event) for event in now.happened if not isinstance(event, events.Progressed)]
        assert kinds == [
            events.Accepted, events.Started, events.Retried, events.Adopted, events.Started, events.Finished,
        ]  # fmt: skip
        (finished,) = now.seen(events.Finished)
        assert isinstance(finished, events.Finished)
        assert finished.conversion == await now.conversion(job)


def lines(caplog: pytest.LogCaptureFixture, *names: str) -> list[dict[str, Any]]:
    """Return the fields of the log lines with these names."""
    return [vars(record) | {"event": record.message} for record in caplog.records if record.message in names]


async def test_the_beginning_and_the_end_of_each_attempt_are_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with engine(tmp_path) as now:
        now.converter.fail(VIDEO, FailureCode.UPSTREAM_ERROR)
        job = await now.submit(VIDEO)
        await now.ended(job)
        (accepted,) = lines(caplog, "job accepted")
        assert (accepted["client"], accepted["job_id"]) == (SOMEONE.owner, job.job_id)
        attempts = lines(caplog, "conversion started", "retry scheduled", "conversion done", "conversion failed")
        assert [(line["event"], line["attempt"]) for line in attempts] == [
            ("conversion started", 1), ("retry scheduled", 1), ("conversion started", 2), ("conversion done", 2),
        ]  # fmt: skip
        for line in attempts:
            of_attempt = line["conversion_id"], line["video_id"], line["client"]
            assert of_attempt == (job.conversion_id, VIDEO, SOMEONE.owner)
        assert set(attempts[-1]["stage_seconds"]) >= {"publishing"}
        assert attempts[1]["stage_seconds"] == {"downloading": 0.1}
        assert attempts[-1]["seconds"] >= 0


async def test_the_stages_of_a_conversion_are_logged_at_debug_level(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with engine(tmp_path) as now:
        await now.ended(await now.submit(VIDEO))
    assert "publishing" in [line["stage"] for line in lines(caplog, "stage")]


async def test_every_report_of_the_converter_is_an_event(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        job = await now.running(VIDEO)
        (progressed,) = now.seen(events.Progressed)
        assert isinstance(progressed, events.Progressed)
        assert (progressed.conversion.conversion_id, progressed.report.progress) == (job.conversion_id, 0.4)


async def test_the_outcome_of_a_submission_is_in_its_event(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        await now.running(VIDEO)
        joined = await now.submit(VIDEO, OTHER)
        now.converter.hold(VIDEO).set()
        await now.ended(joined)
        await now.submit(VIDEO)
        accepted = [event.outcome for event in now.happened if isinstance(event, events.Accepted)]
        assert accepted == [Outcome.CREATED, Outcome.JOINED, Outcome.CACHED]


async def test_an_attempt_released_by_a_drain_is_an_event(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        await now.running(VIDEO)
        await now.parts.workers.drain(0.0, never())
        await settled()
        assert len(now.seen(events.Released)) == 1


async def test_an_error_of_the_store_is_an_event_that_names_the_call(tmp_path: Path) -> None:
    async with engine(tmp_path) as now:
        now.store.broken["finish"] = StoreDown("no answer")
        await now.submit(VIDEO)
        await asyncio.sleep(5)
        failed = {event.operation for event in now.happened if isinstance(event, events.StoreFailed)}
        assert failed == {"finish"}


@pytest.mark.parametrize(
    ("codes", "attempts"),
    [
        ([FailureCode.PRIVATE], 1),
        ([FailureCode.UPSTREAM_ERROR] * 9, 4),
        ([FailureCode.UPSTREAM_ERROR, FailureCode.PRIVATE], 2),
    ],
)
async def test_a_failed_conversion_is_logged_as_failed_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, codes: list[FailureCode], attempts: int
) -> None:
    """However many attempts it took: operators count failed conversions by this line."""
    caplog.set_level(logging.INFO)
    async with engine(tmp_path) as now:
        now.converter.fail(VIDEO, *codes)
        await now.ended(await now.submit(VIDEO))
        assert now.converter.started[VIDEO] == attempts
    assert caplog.messages.count("conversion failed") == 1
    assert caplog.messages.count("retry scheduled") == attempts - 1
    assert len(now.seen(events.Failed)) == 1


async def test_a_listener_that_fails_disturbs_neither_the_engine_nor_the_others() -> None:
    def broken(_: events.Event) -> None:
        raise ZeroDivisionError

    seen: list[events.Event] = []
    emitter = Events(broken, seen.append)
    event = events.LoopLagged(seconds=0.0)
    emitter.emit(event)
    assert seen == [event]


async def test_metrics_count_the_events(tmp_path: Path) -> None:
    metrics, tally = Metrics(), Tally()
    async with engine(tmp_path, workers=1) as now:
        now.parts.events.listen(metrics.on_event)
        now.parts.events.listen(tally.on_event)
        now.converter.fail(video(2), FailureCode.PRIVATE)
        now.converter.fail(video(3), FailureCode.UPSTREAM_ERROR)
        for number in (1, 2, 3):
            await now.ended(await now.submit(video(number)))
        await now.submit(VIDEO)
        cancelled = await now.running(video(4))
        await now.submit(video(4), OTHER)
        await now.parts.jobs.cancel(cancelled.job_id, None)
        waiting = await now.submit(video(5))
        await now.parts.jobs.cancel(waiting.job_id, None)
    assert sample(metrics, "ytmp3_jobs_total", outcome="created") == 5
    assert sample(metrics, "ytmp3_jobs_total", outcome="joined") == 1
    assert sample(metrics, "ytmp3_jobs_total", outcome="cached") == 1
    assert sample(metrics, "ytmp3_conversions_total", outcome="done", code="") == 2
    assert sample(metrics, "ytmp3_conversions_total", outcome="failed", code="private") == 1
    assert sample(metrics, "ytmp3_conversions_total", outcome="cancelled", code="") == 1
    assert sample(metrics, "ytmp3_conversion_retries_total", code="upstream_error") == 1
    assert sample(metrics, "ytmp3_conversions_adopted_total") == 1
    assert sample(metrics, "ytmp3_conversion_duration_seconds_count") == 2
    assert sample(metrics, "ytmp3_conversion_stage_duration_seconds_count", stage="downloading") == 2
    assert sample(metrics, "ytmp3_conversion_stage_duration_seconds_count", stage="publishing") == 2
    assert (tally.done, tally.failed, tally.cancelled, tally.joined, tally.cached) == (2, 1, 1, 1, 1)
    assert tally.success_rate == 0.6667
    assert now.parts.estimates.durations().mean is not None


def test_metrics_count_what_is_rare() -> None:
    metrics = Metrics()
    for event in (
        events.TrackExpired(file_name="a.mp3"),
        events.StoreFailed(operation="adopt", error=StoreDown("no answer")),
        events.LoopLagged(seconds=0.003),
    ):
        metrics.on_event(event)
    assert sample(metrics, "ytmp3_tracks_expired_total") == 1
    assert sample(metrics, "ytmp3_store_errors_total", kind="StoreDown") == 1
    assert sample(metrics, "ytmp3_event_loop_lag_seconds_sum") == 0.003


def test_a_success_rate_is_unknown_before_the_first_end() -> None:
    assert Tally().success_rate is None
