"""The JSON of a job: every field in every status, and what the renderer caches."""

import tracemalloc
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from msgspec.structs import fields, replace

from tests.core.values import METADATA, NOW, TRACK, conversion, ticket
from ytmp3.core import states
from ytmp3.core.errors import FailureCode
from ytmp3.core.ids import InstanceId
from ytmp3.core.job import Conversion, Report, Stage, State, Ticket
from ytmp3.core.tag_edits import TagEdits
from ytmp3.engine.jobs import Live
from ytmp3.http.addresses import Addresses
from ytmp3.http.view import Renderer, job_view
from ytmp3.http.wire import JobView

AT_THE_ROOT = Addresses()


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def seen(of: Ticket, **live: Any) -> dict[str, Any]:
    view: dict[str, Any] = msgspec.to_builtins(job_view(of, Live(**live), AT_THE_ROOT), builtin_types=(datetime,))
    return view


RUNNING = states.claimed(conversion(token=1), now=NOW + 2, until=NOW + 32)
DONE = states.finished(RUNNING, TRACK, METADATA, now=NOW + 22, expires_at=NOW + 86_422)
FAILED = states.failed(RUNNING, FailureCode.PRIVATE, now=NOW + 5, expires_at=NOW + 86_405)
RETRYING = states.retried(RUNNING, FailureCode.UPSTREAM_TIMEOUT, due_at=NOW + 9)

NOTHING_YET = {
    "job_id": "ab" + "1" * 32,
    "batch_id": None,
    "status": "pending",
    "stage": "queued",
    "progress": 0.0,
    "queue_position": None,
    "eta_seconds": None,
    "deduplicated": False,
    "url": "https://www.youtube.com/watch?v=dQw4w9WgXcQ",
    "hint": None,
    "video_id": "dQw4w9WgXcQ",
    "format": "mp3",
    "quality": "192k",
    "start_seconds": None,
    "end_seconds": None,
    "loudness": "off",
    "language": "original",
    "metadata": None,
    "tags": None,
    "attempt": 0,
    "error": None,
    "created_at": moment(NOW),
    "started_at": None,
    "completed_at": None,
    "expires_at": None,
    "file": None,
    "status_url": "/status/ab" + "1" * 32,
    "download_url": None,
    "listen_url": "/listen/ab" + "1" * 32 + ".mp3",
}
SHOWN_METADATA = {
    "title": "A song", "uploader": "Someone", "duration_seconds": 212.0, "thumbnail_url": "https://i.ytimg.com/x",
    "artist": None, "track": None, "album": None, "release_year": None, "audio_language": None, "chapters": (),
}  # fmt: skip


def test_a_pending_job_shows_its_position_and_estimate() -> None:
    assert seen(ticket(conversion()), queue_position=3, eta_seconds=40) == NOTHING_YET | {
        "queue_position": 3,
        "eta_seconds": 40,
    }


def test_a_processing_job_has_no_queue_position() -> None:
    assert seen(ticket(RUNNING), queue_position=7)["queue_position"] is None


def test_a_processing_job_shows_the_live_progress() -> None:
    report = Report(stage=Stage.CONVERTING, progress=0.123456, metadata=METADATA)
    assert seen(ticket(RUNNING), report=report, eta_seconds=9, queue_position=5) == NOTHING_YET | {
        "status": "processing",
        "stage": "converting",
        "progress": 0.1235,
        "eta_seconds": 9,
        "metadata": SHOWN_METADATA,
        "attempt": 1,
        "started_at": moment(NOW + 2),
    }


def test_a_processing_job_of_another_instance_shows_the_record() -> None:
    recorded = replace(RUNNING, stage=Stage.DOWNLOADING, progress=0.4, metadata=METADATA)
    shown = seen(ticket(recorded))
    assert (shown["stage"], shown["progress"], shown["metadata"]) == ("downloading", 0.4, SHOWN_METADATA)


def test_a_processing_job_has_no_metadata_before_the_extraction() -> None:
    assert seen(ticket(RUNNING), report=Report(stage=Stage.EXTRACTING, progress=0.0))["metadata"] is None


def test_a_completed_job_shows_its_file_and_neither_estimate_nor_position() -> None:
    assert seen(ticket(DONE, deduplicated=True), eta_seconds=4, queue_position=1) == NOTHING_YET | {
        "status": "completed",
        "stage": "done",
        "progress": 1.0,
        "deduplicated": True,
        "metadata": SHOWN_METADATA,
        "attempt": 1,
        "started_at": moment(NOW + 2),
        "completed_at": moment(NOW + 22),
        "expires_at": moment(NOW + 86_422),
        "file": {"size_bytes": 5_000_000, "duration_seconds": 212.1, "sha256": "cd" * 32, "loudness_lufs": None},
        "download_url": "/download/ab" + "1" * 32 + ".mp3",
        "listen_url": None,
    }


def test_a_job_shows_the_tags_that_its_client_has_chosen() -> None:
    edits = TagEdits(title="Mine", artist="Me", album="Ours")
    own = ticket(DONE)
    own = replace(own, job=replace(own.job, edits=edits))
    shown = seen(own)
    assert shown["metadata"] == SHOWN_METADATA | {"title": "Mine", "artist": "Me", "album": "Ours"}
    assert (shown["file"]["sha256"], shown["file"]["size_bytes"]) == (None, 5_000_000)
    song = replace(METADATA, track="Song", artist="Band", album="Album")
    assert own.edited(song) == replace(song, title="Mine", track="Mine", artist="Me", album="Ours")
    only_without_cover = replace(own, job=replace(own.job, edits=TagEdits(cover=False)))
    assert only_without_cover.edited(song) == song
    assert only_without_cover.metadata == METADATA
    assert replace(own, conversion=RUNNING).metadata is None


def test_a_failed_job_shows_its_error() -> None:
    assert seen(ticket(FAILED)) == NOTHING_YET | {
        "status": "failed",
        "stage": "extracting",
        "attempt": 1,
        "error": {"code": "private", "message": "The video is private.", "retryable": False},
        "started_at": moment(NOW + 2),
        "completed_at": moment(NOW + 5),
        "expires_at": moment(NOW + 86_405),
        "listen_url": None,
    }


@pytest.mark.parametrize("of", [conversion(), RUNNING, DONE, FAILED])
def test_a_cancelled_job_shows_its_own_end_and_no_file(of: Conversion) -> None:
    shown = seen(ticket(of, cancelled_at=NOW + 60), eta_seconds=5, queue_position=2)
    assert shown["status"] == "cancelled"
    assert shown["completed_at"] == moment(NOW + 60)
    assert [shown[name] for name in ("file", "download_url", "error", "eta_seconds", "queue_position")] == [None] * 5


def test_a_job_that_waits_for_its_next_attempt_shows_the_last_error() -> None:
    shown = seen(ticket(RETRYING))
    assert (shown["status"], shown["attempt"]) == ("pending", 1)
    assert shown["error"] == {
        "code": "upstream_timeout", "message": "YouTube did not answer in time.", "retryable": True,
    }  # fmt: skip


def test_a_job_in_its_next_attempt_has_no_error() -> None:
    again = states.claimed(states.held(RETRYING, InstanceId("a"), NOW + 40), now=NOW + 10, until=NOW + 40)
    shown = seen(ticket(again))
    assert (shown["status"], shown["attempt"], shown["error"]) == ("processing", 2, None)


@pytest.mark.parametrize(
    ("of", "attempt"),
    [
        (conversion(), 0),
        (RUNNING, 1),
        (RETRYING, 1),
        (states.orphaned(RUNNING, due_at=NOW), 1),
        (states.released(RUNNING, due_at=NOW), 0),
        (DONE, 1),
        (replace(DONE, attempts=2, crashes=1), 4),
        (FAILED, 1),
        (replace(FAILED, attempts=4), 4),
    ],
)
def test_attempts_are_numbered_from_one_and_crashed_ones_are_counted(of: Conversion, attempt: int) -> None:
    assert seen(ticket(of))["attempt"] == attempt


@pytest.mark.parametrize("state", list(State))
def test_every_field_is_present_in_every_state_and_times_are_rfc_3339(state: State) -> None:
    view = job_view(ticket(replace(conversion(state=state), expires_at=NOW + 0.12345)), Live(), AT_THE_ROOT)
    document = msgspec.json.decode(msgspec.json.encode(view))
    assert set(document) == {field.name for field in fields(JobView)}
    assert msgspec.json.decode(msgspec.json.encode(view), type=JobView) == view
    assert document["created_at"] == "2023-11-14T22:13:20Z"
    assert document["expires_at"] == "2023-11-14T22:13:20.123000Z"


def rendered(renderer: Renderer, of: Ticket, **live: Any) -> dict[str, Any]:
    body = renderer.render(of, Live(**live))
    assert body == msgspec.json.encode(job_view(of, Live(**live), AT_THE_ROOT))
    return dict(msgspec.json.decode(body))


def test_the_cache_never_hides_a_change_of_a_job() -> None:
    renderer = Renderer(AT_THE_ROOT)
    report = Report(stage=Stage.DOWNLOADING, progress=0.25)
    for _ in range(2):
        assert rendered(renderer, ticket(conversion()))["status"] == "pending"
        assert rendered(renderer, ticket(conversion()), queue_position=3)["queue_position"] == 3
        assert rendered(renderer, ticket(conversion()), queue_position=2, eta_seconds=9)["eta_seconds"] == 9
        assert rendered(renderer, ticket(RUNNING), report=report)["progress"] == 0.25
        moved = Report(stage=Stage.DOWNLOADING, progress=0.5)
        assert rendered(renderer, ticket(RUNNING), report=moved)["progress"] == 0.5
        assert rendered(renderer, ticket(DONE))["status"] == "completed"
        assert rendered(renderer, ticket(DONE, cancelled_at=NOW + 30))["status"] == "cancelled"
        assert rendered(renderer, ticket(replace(DONE, expires_at=NOW + 99_999)))["expires_at"].startswith("2023-11-16")


def test_the_hint_is_only_in_the_response_that_asked_for_it() -> None:
    renderer, of = Renderer(AT_THE_ROOT), ticket(conversion())
    assert msgspec.json.decode(renderer.render(of, Live(), has_playlist=True))["hint"] == "playlist"
    assert msgspec.json.decode(renderer.render(of, Live()))["hint"] is None
    assert msgspec.json.decode(renderer.render(of, Live(), has_playlist=True))["hint"] == "playlist"


def test_an_unchanged_job_is_not_rendered_again() -> None:
    renderer = Renderer(AT_THE_ROOT)
    assert renderer.render(ticket(DONE), Live()) is renderer.render(ticket(DONE), Live())


def test_a_cached_job_takes_little_more_memory_than_its_json() -> None:
    renderer = Renderer(AT_THE_ROOT)
    tickets = [ticket(conversion(number)) for number in range(100)]
    tickets = [replace(each, job=replace(each.job, job_id=f"{number:034x}")) for number, each in enumerate(tickets)]
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        size = sum(len(renderer.render(each, Live())) for each in tickets)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 2 * size


def test_the_cache_forgets_the_oldest_job_first() -> None:
    renderer = Renderer(AT_THE_ROOT, remembered=3)
    jobs = [replace(ticket(DONE), job=replace(ticket(DONE).job, job_id=f"{number:034x}")) for number in range(4)]
    first = [renderer.render(each, Live()) for each in jobs]
    assert renderer.render(jobs[1], Live()) is first[1]
    assert renderer.render(jobs[0], Live()) is not first[0]
    assert renderer.render(jobs[0], Live()) == first[0]
    assert len(renderer._rendered) == 3


def test_the_addresses_of_a_service_below_a_path_begin_with_it() -> None:
    view = job_view(ticket(DONE), Live(), Addresses(public_path="/music/ytmp3"))
    assert view.status_url == "/music/ytmp3/status/ab" + "1" * 32
    assert view.download_url == "/music/ytmp3/download/ab" + "1" * 32 + ".mp3"
