"""The gauges of an instance: values that Prometheus reads at each scrape, from the parts that `app` has built."""

import platform
import time
from collections.abc import Callable

from prometheus_client import ProcessCollector

from ytmp3 import __version__
from ytmp3.converter import Converter
from ytmp3.core.breaker import PAUSES
from ytmp3.core.errors import Fault
from ytmp3.core.release import age_days
from ytmp3.engine.assembly import Engine
from ytmp3.http.assembly import Sending
from ytmp3.http.stats import resident_bytes
from ytmp3.metrics import Metrics
from ytmp3.storage import Space


def register_gauges(metrics: Metrics, engine: Engine, converter: Converter, sending: Sending) -> None:
    """Register the gauges, which are read at each scrape."""
    started_at = time.monotonic()
    health, runs, queue, settings = engine.health, engine.runs, engine.queue, engine.settings
    _register_counts(metrics, converter)
    ProcessCollector(registry=metrics.registry)
    metrics.build(lambda: versions() | health.tool_versions)

    def of_disk(read: Callable[[Space], int]) -> Callable[[], int]:
        return lambda: 0 if health.space is None else read(health.space)

    gauges: dict[str, tuple[str, Callable[[], float]]] = {
        "ytmp3_conversions_active": ("Conversions running in this instance.", lambda: runs.active),
        "ytmp3_workers": ("Conversions that this instance can run at once.", lambda: settings.workers),
        "ytmp3_queue_length": ("Conversions waiting in this instance.", queue.qsize),
        "ytmp3_queue_capacity": ("Conversions that may wait in this instance.", lambda: settings.queue_capacity),
        "ytmp3_event_streams": ("Event streams that are open in this instance.", lambda: sending.events.active),
        "ytmp3_listeners": ("Clients that receive audio while it is converted.", lambda: sending.sound.active),
        "ytmp3_batches_held": ("Batches that this instance feeds.", lambda: engine.feeder.held),
        "ytmp3_ready": ("1 if this instance would accept a new job.", lambda: health.is_ready),
        "ytmp3_draining": ("1 while this instance shuts down.", lambda: health.is_draining),
        "ytmp3_store_up": ("1 if the job store responds and can be used.", lambda: health.store.ok),
        "ytmp3_store_records_usable": (
            "0 if a part of the records cannot be used: a node of a cluster is down, or keys were overwritten.",
            lambda: health.records.ok,
        ),
        "ytmp3_upstream_blocked": ("1 while no conversion may ask YouTube.", lambda: engine.upstream.is_blocked),
        "ytmp3_extractor_age_days": (
            "Days since the release of the installed yt-dlp; NaN if not known.",
            lambda: age_days(health.tool_versions.get("yt-dlp"), time.time()),
        ),
        "ytmp3_extractor_refused": (
            "1 while the release of yt-dlp that was chosen is not used: it is damaged, or conversions failed with it.",
            lambda: converter.release().is_refused,
        ),
        "ytmp3_extractor_share_percent": (
            "Share of new conversions that use the newest release of yt-dlp; 100 except while an update is tried.",
            lambda: converter.release().share,
        ),
        "ytmp3_extractor_quarantined": (
            "Releases of yt-dlp that are newer than the one in use, but that have failed, so that updates leave them.",
            lambda: len(converter.release().quarantined),
        ),
        "ytmp3_uptime_seconds": ("Time since this instance started.", lambda: time.monotonic() - started_at),
        "ytmp3_memory_resident_bytes": ("Resident memory of the server process.", resident_bytes),
        "ytmp3_storage_total_bytes": ("Size of the disk with the tracks.", of_disk(lambda disk: disk.total_bytes)),
        "ytmp3_storage_free_bytes": ("Free space on that disk.", of_disk(lambda disk: disk.free_bytes)),
        "ytmp3_storage_reserve_bytes": (
            "New work is refused below this free space.",
            of_disk(lambda disk: disk.reserve_bytes),
        ),
    }
    for name, (text, read) in gauges.items():
        metrics.gauge(name, text, read)

    _register_identities(metrics, engine)
    _register_pauses(metrics, engine)


def _register_pauses(metrics: Metrics, engine: Engine) -> None:
    """Register the gauges of the breaker, by cause."""

    def is_paused_by(cause: Fault) -> Callable[[], bool]:
        return lambda: engine.upstream.cause is cause

    for cause in PAUSES:
        metrics.upstream_paused.labels(cause).set_function(is_paused_by(cause))


def _register_counts(metrics: Metrics, converter: Converter) -> None:
    """Register the counters that the converter keeps."""
    metrics.counts(
        "ytmp3_youtube_signs",
        "Signs of trouble at YouTube by kind, also in conversions that succeeded.",
        "kind",
        converter.signs,
    )
    metrics.counts(
        "ytmp3_js_solutions",
        "YouTube's JavaScript challenges, by how they were solved: warm, cold, or failed (not by the solver).",
        "how",
        converter.solutions,
    )
    metrics.counts_by(
        "ytmp3_extractor_conversions",
        "Conversions by release of yt-dlp: converted, failed, or blamed (failed, and succeeded with the one before).",
        ["release", "outcome"],
        lambda: {(release, outcome): count for (release, outcome), count in converter.release_outcomes().items()},
    )
    metrics.counts(
        "ytmp3_long_tracks",
        "Long MP3 tracks, by how they were encoded: divided (several encoders), busy or not_divisible (one encoder).",
        "how",
        converter.long_tracks,
    )
    metrics.counts(
        "ytmp3_cookies_refused",
        "Conversions whose cookies YouTube has refused, by identity.",
        "identity",
        converter.refused_cookies,
    )


def _register_identities(metrics: Metrics, engine: Engine) -> None:
    """Register the gauges of the identities, by name."""
    identities = engine.upstream.identities
    metrics.per_name(
        "ytmp3_identity_paused",
        "1 while an identity is not used, because YouTube refuses it, it reaches nothing, or a setting is wrong.",
        lambda: {view.name: float(view.cause is not None) for view in identities.views()},
    )
    metrics.per_name(
        "ytmp3_identity_pace",
        "Part of its budget that an identity uses now: a tenth after a refusal, 1 normally.",
        lambda: {view.name: view.pace for view in identities.views()},
    )


def versions() -> dict[str, str]:
    """Return the versions of this program and of Python."""
    return {"ytmp3": __version__, "python": platform.python_version()}
