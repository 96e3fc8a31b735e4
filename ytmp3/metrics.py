"""The Prometheus metrics: one registry for each instance, never the library's global one.

Jobs and conversions are counted from the engine's events (`Metrics.on_event`), requests by the HTTP middleware, and
current values are read at each scrape.

The rule: labels are route patterns, statuses and codes, never a path, an id, a link or an address. So clients cannot
increase the number of series without bound.
"""

import math
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final, assert_never

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from ytmp3.core.errors import FAILURES, Fault, LeaseLost, StoreDown, StoreFull, StoreUnusable
from ytmp3.core.job import Stage
from ytmp3.core.webhook import DeliveryState, Reason
from ytmp3.engine import events
from ytmp3.engine.events import ProbeOutcome
from ytmp3.jobstore import Outcome
from ytmp3.storage import Request

REQUEST_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
"""Upper edges of the request buckets, in seconds.

Alerts and benchmarks compare with 10, 50 and 100 ms, so each of them is an edge.
"""
STAGE_SECONDS: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300, 600, 1200)
"""Upper edges of the conversion buckets, in seconds: from a short clip to the longest time a stage may take."""
LAG_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1)
"""Upper edges of the event-loop lag buckets, in seconds."""
OBJECT_STORE_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Upper edges of the buckets of requests to an object store, in seconds: up to the longest repetition of a request."""
EXPOSITION_SECONDS: Final = 1.0
"""How long a rendered exposition is served again, in seconds. One takes the time of ten status requests. With this
limit, clients that ask all the time cost 1 % of a core; Prometheus asks every 15 s."""


class RequestMetrics(Collector):
    """Counts and durations of requests, kept as plain numbers and turned into metric families at each scrape.

    All requests are recorded on the event loop's thread. The library's counter and histogram would take two locks for
    each request and search the buckets one by one, which takes 5 % of the CPU time of a status request.
    """

    def __init__(self) -> None:
        self._counts: defaultdict[tuple[str, str, int], int] = defaultdict(int)
        self._buckets: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}

    def record(self, route: str, method: str, status: int, seconds: float) -> None:
        """Record a request after its response."""
        self._counts[route, method, status] += 1
        buckets = self._buckets.get(route)
        if buckets is None:
            buckets = self._buckets[route] = [0] * (len(REQUEST_SECONDS) + 1)
            self._seconds[route] = 0.0
        buckets[bisect_left(REQUEST_SECONDS, seconds)] += 1
        self._seconds[route] += seconds

    def collect(self) -> Iterator[CounterMetricFamily | HistogramMetricFamily]:
        """Yield the metric families; the library calls this at each scrape."""
        counts = CounterMetricFamily("ytmp3_http_requests", "Requests answered.", labels=["route", "method", "status"])
        for (route, method, status), count in self._counts.items():
            counts.add_metric([route, method, str(status)], count)
        yield counts
        times = HistogramMetricFamily(
            "ytmp3_http_request_duration_seconds",
            "Time to answer, by route; downloads include the transfer.",
            labels=["route"],
        )
        edges = [*map(floatToGoString, REQUEST_SECONDS), "+Inf"]
        for route, buckets in self._buckets.items():
            times.add_metric([route], list(zip(edges, accumulate(buckets), strict=True)), self._seconds[route])
        yield times


class BuildInfo(Collector):
    """One series whose labels are versions. They are read at each scrape, because tool versions are found later."""

    def __init__(self, versions: Callable[[], Mapping[str, str]]) -> None:
        self._versions = versions

    def collect(self) -> Iterator[InfoMetricFamily]:
        """Yield the metric family; the library calls this at each scrape."""
        labels = {name.replace("-", "_"): version for name, version in self._versions().items()}
        yield InfoMetricFamily("ytmp3_build", "Versions of the service and its tools.", labels)


class Metrics:
    """All series of one instance. `clock` is monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._exposition, self._rendered_at = clock, b"", -math.inf
        # A series `..._created` for each counter would double the size of a scrape, and looks like a huge count.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        r = self.registry
        self.requests = RequestMetrics()
        r.register(self.requests)
        self.rejections = Counter(
            "ytmp3_rejections_total", "Requests refused with 429 or 503, by code.", ["code"], registry=r
        )
        self.jobs = Counter(
            "ytmp3_jobs_total", "Jobs accepted, by outcome (created, joined, cached).", ["outcome"], registry=r
        )
        self.batches = Counter(
            "ytmp3_batches_total", "Batches accepted, cancelled, and ended here.", ["event"], registry=r
        )
        self.conversions = Counter(
            "ytmp3_conversions_total",
            "Conversions ended here, by outcome (done, failed, cancelled) and error code.",
            ["outcome", "code"],
            registry=r,
        )
        self.retries = Counter(
            "ytmp3_conversion_retries_total", "Attempts that will be repeated, by error code.", ["code"], registry=r
        )
        self.stage_seconds = Histogram(
            "ytmp3_conversion_stage_duration_seconds",
            "Wall time of each stage of finished conversions.",
            ["stage"],
            buckets=STAGE_SECONDS,
            registry=r,
        )
        self.conversion_seconds = Histogram(
            "ytmp3_conversion_duration_seconds",
            "Wall time from claim to published track.",
            buckets=STAGE_SECONDS,
            registry=r,
        )
        self.adopted = Counter(
            "ytmp3_conversions_adopted_total", "Conversions taken over after release, retry or crash.", registry=r
        )
        self.upstream_paused = Gauge(
            "ytmp3_upstream_paused",
            "1 from the moment that new starts pause for this cause until a trial succeeds.",
            ["cause"],
            registry=r,
        )
        """The gauge is read at each scrape: `app` sets a function for each cause."""
        self.leases_lost = Counter("ytmp3_leases_lost_total", "Conversions stopped after a lost lease.", registry=r)
        self.expired = Counter("ytmp3_tracks_expired_total", "Tracks removed at their expiry.", registry=r)
        self.damaged = Counter("ytmp3_tracks_damaged_total", "Tracks whose file had changed.", registry=r)
        self.store_errors = Counter(
            "ytmp3_store_errors_total", "Job store calls that failed, by kind.", ["kind"], registry=r
        )
        self.loop_lag = Histogram(
            "ytmp3_event_loop_lag_seconds", "Lateness of a 100 ms timer.", buckets=LAG_SECONDS, registry=r
        )
        self._add_transfers(r)
        self._add_object_store(r)
        self._add_webhooks(r)
        self._add_probes(r)
        self._begin_at_zero()

    def _add_probes(self, r: CollectorRegistry) -> None:
        self.probes = Counter(
            "ytmp3_probes_total",
            "Probes answered, by how (extracted, joined, cached, late) and error code; empty: a description.",
            ["outcome", "code"],
            registry=r,
        )
        for outcome in ProbeOutcome:
            self.probes.labels(outcome, "")

    def _add_transfers(self, r: CollectorRegistry) -> None:
        self.downloaded_bytes = Counter(
            "ytmp3_track_bytes_sent_total", "Bytes of tracks sent by this process, finished or not.", registry=r
        )
        self.listened = Counter(
            "ytmp3_listens_total",
            "Streams of audio that ended, by how: complete, broken, stalled, or left by the client.",
            ["how"],
            registry=r,
        )

    def _add_object_store(self, r: CollectorRegistry) -> None:
        self.object_store_seconds = Histogram(
            "ytmp3_object_store_request_duration_seconds",
            "Time of requests to the object store, repetitions included, by kind.",
            ["request"],
            buckets=OBJECT_STORE_SECONDS,
            registry=r,
        )
        self.object_store_errors = Counter(
            "ytmp3_object_store_errors_total",
            "Requests to the object store that failed, by kind.",
            ["request"],
            registry=r,
        )

        for request in Request:
            self.object_store_errors.labels(request)

    def _add_webhooks(self, r: CollectorRegistry) -> None:
        self.webhook_requests = Counter(
            "ytmp3_webhook_requests_total",
            "Requests to webhook endpoints, by the reason of the failure; empty: accepted.",
            ["reason"],
            registry=r,
        )
        self.webhook_seconds = Histogram(
            "ytmp3_webhook_request_duration_seconds", "Time of requests to webhook endpoints.", registry=r
        )
        self.webhooks_ended = Counter(
            "ytmp3_webhook_deliveries_total",
            "Webhook deliveries that ended, by state (delivered, failed) and reason.",
            ["state", "reason"],
            registry=r,
        )

    def _begin_at_zero(self) -> None:
        """Create every series with known labels. `rate()` and alerts would miss the first count of a new series."""
        for outcome in Outcome:
            self.jobs.labels(outcome)
        for change in ("accepted", "cancelled", "ended"):
            self.batches.labels(change)
        for how in ("complete", "broken", "stalled", "left"):
            self.listened.labels(how)
        for ended in ("done", "cancelled"):
            self.conversions.labels(ended, "")
        for code, failure in FAILURES.items():
            self.conversions.labels("failed", code)
            if failure.retryable or failure.fault is Fault.ADDRESS:
                self.retries.labels(code)
        for stage in Stage:
            self.stage_seconds.labels(stage)
        for reason in ("", *Reason):
            self.webhook_requests.labels(reason)
            state = DeliveryState.FAILED if reason else DeliveryState.DELIVERED
            self.webhooks_ended.labels(state, reason)
        for kind in (StoreDown, StoreFull, StoreUnusable, LeaseLost):
            self.store_errors.labels(kind.__name__)

    def build(self, versions: Callable[[], Mapping[str, str]]) -> None:
        """Register the versions, which are read at each scrape."""
        self.registry.register(BuildInfo(versions))

    def on_event(self, event: events.Event) -> None:  # noqa: C901, PLR0912 - one case for each event
        """Count an event of the engine: a listener."""
        match event:
            case events.Accepted(outcome=outcome):
                self.jobs.labels(outcome).inc()
            case events.BatchAccepted():
                self.batches.labels("accepted").inc()
            case events.BatchCancelled():
                self.batches.labels("cancelled").inc()
            case events.BatchEnded():
                self.batches.labels("ended").inc()
            case events.Finished(seconds=seconds, stage_seconds=stage_seconds):
                self.conversions.labels("done", "").inc()
                self.conversion_seconds.observe(seconds)
                for stage, of_stage in stage_seconds.items():
                    self.stage_seconds.labels(stage).observe(of_stage)
            case events.Failed(code=code):
                self.conversions.labels("failed", code).inc()
            case events.Cancelled():
                self.conversions.labels("cancelled", "").inc()
            case events.Retried(code=code) | events.Postponed(code=code):
                self.retries.labels(code).inc()
            case events.LeaseLost():
                self.leases_lost.inc()
            case events.Adopted(conversions=conversions):
                self.adopted.inc(len(conversions))
            case events.TrackExpired():
                self.expired.inc()
            case events.StoreFailed(error=error):
                self.store_errors.labels(type(error).__name__).inc()
            case events.WebhookSent():
                self._count_webhook(event)
            case events.WebhookDropped(reason=reason):
                self.webhooks_ended.labels(DeliveryState.FAILED, reason).inc()
            case events.ProbeAnswered(outcome=outcome, code=code):
                self.probes.labels(outcome, code or "").inc()
            case events.LoopLagged(seconds=seconds):
                self.loop_lag.observe(seconds)
            case (
                events.BatchesAdopted()
                | events.JobCancelled()
                | events.Started()
                | events.Progressed()
                | events.Released()
                | events.IdentityPaused()
                | events.IdentityResumed()
                | events.UpstreamPaused()
                | events.UpstreamResumed()
            ):
                pass
            case _:
                assert_never(event)

    def on_damaged_track(self, _: str) -> None:
        """Count a track whose file has changed: a listener of the shelf. The file's name is in the log."""
        self.damaged.inc()

    def on_object_store_request(self, request: Request, seconds: float, is_ok: bool) -> None:  # noqa: FBT001
        """Count a request to the object store: a listener of the shelf, called from any thread."""
        self.object_store_seconds.labels(request).observe(seconds)
        if not is_ok:
            self.object_store_errors.labels(request).inc()

    def on_listened(self, how: str) -> None:
        """Count a stream of sound that has ended."""
        self.listened.labels(how).inc()

    def _count_webhook(self, event: events.WebhookSent) -> None:
        self.webhook_requests.labels(event.cause or "").inc()
        self.webhook_seconds.observe(event.seconds)
        if event.settlement.state is not DeliveryState.PENDING:
            self.webhooks_ended.labels(event.settlement.state, event.settlement.reason or "").inc()

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Register a gauge whose value is read at each scrape."""
        Gauge(name, text, registry=self.registry).set_function(read)

    def per_name(self, name: str, text: str, read: Callable[[], Mapping[str, float]]) -> None:
        """Register a gauge for each identity, by its name, whose values are read at each scrape."""
        self.registry.register(_PerName(name, text, read))

    def counts(self, name: str, text: str, label: str, read: Callable[[], Mapping[str, int]]) -> None:
        """Register a counter with one label, kept elsewhere, whose values are read at each scrape."""
        self.counts_by(name, text, [label], lambda: {(value,): count for value, count in read().items()})

    def counts_by(
        self, name: str, text: str, labels: Sequence[str], read: Callable[[], Mapping[tuple[str, ...], int]]
    ) -> None:
        """Register a counter with these labels, kept elsewhere, whose values are read at each scrape."""
        self.registry.register(_Counts(name, text, labels, read))

    def exposition(self) -> bytes:
        """Return the text format, which may be EXPOSITION_SECONDS old."""
        now = self._clock()
        if now - self._rendered_at >= EXPOSITION_SECONDS:
            self._exposition = generate_latest(self.registry)
            self._rendered_at = now
        return self._exposition


class _PerName(Collector):
    """See `Metrics.per_name`."""

    def __init__(self, name: str, text: str, read: Callable[[], Mapping[str, float]]) -> None:
        self._name, self._text, self._read = name, text, read

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metric family; the library calls this at each scrape."""
        family = GaugeMetricFamily(self._name, self._text, labels=["identity"])
        for identity, value in self._read().items():
            family.add_metric([identity], value)
        yield family


class _Counts(Collector):
    """See `Metrics.counts_by`."""

    def __init__(
        self, name: str, text: str, labels: Sequence[str], read: Callable[[], Mapping[tuple[str, ...], int]]
    ) -> None:
        self._name, self._text, self._labels, self._read = name, text, labels, read

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the metric family; the library calls this at each scrape."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for values, count in self._read().items():
            family.add_metric(values, count)
        yield family
