"""Request metrics: exposed in the same format as the library's own counters and histograms."""

import itertools

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import generate_latest

from ytmp3.metrics import EXPOSITION_SECONDS, REQUEST_SECONDS, Metrics, RequestMetrics


def test_request_metrics_are_exposed_as_the_librarys_counter_and_histogram_would_be() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    requests = RequestMetrics()
    ours.register(requests)
    counter = Counter("ytmp3_http_requests", "Requests answered.", ["route", "method", "status"], registry=theirs)
    histogram = Histogram(
        "ytmp3_http_request_duration_seconds",
        "Time to answer, by route; downloads include the transfer.",
        ["route"],
        buckets=REQUEST_SECONDS,
        registry=theirs,
    )
    # On each edge, between edges, below the first and above the last.
    edges = [0.0, *REQUEST_SECONDS, 11.0]
    for route, status in (("/extract", 202), ("/status/{job_id}", 200), ("/extract", 429)):
        for edge in edges:
            for seconds in (edge, edge * 1.1):
                requests.record(route, "POST", status, seconds)
                counter.labels(route, "POST", str(status)).inc()
                histogram.labels(route).observe(seconds)
    assert lines(ours) == lines(theirs)


def lines(registry: CollectorRegistry) -> list[str]:
    """Return the exposition without the `_created` series, which only the library's own metrics have."""
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]


def test_counts_that_are_kept_elsewhere_are_read_at_each_scrape() -> None:
    times = itertools.count(0.0, EXPOSITION_SECONDS)
    metrics, counts = Metrics(clock=lambda: next(times)), {"sabr_only": 2}
    metrics.counts("ytmp3_things", "Things.", "kind", lambda: counts)
    assert 'ytmp3_things_total{kind="sabr_only"} 2.0' in metrics.exposition().decode()
    counts["drm"] = 1
    assert 'ytmp3_things_total{kind="drm"} 1.0' in metrics.exposition().decode()
