"""Alert rules and dashboard use only metrics that a running service exposes. `make ops-test` runs Prometheus itself."""

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import promql_parser
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.ops.files import ROOT, Document, compose, document
from ytmp3.converter.youtube.signs import Sign
from ytmp3.core.breaker import PAUSES
from ytmp3.core.errors import FAILURES, FailureCode, Fault
from ytmp3.core.job import Stage
from ytmp3.http.routes import ROUTES
from ytmp3.metrics import Metrics

# One worker starts the service whose metrics all these tests read.
pytestmark = pytest.mark.xdist_group("monitoring")

FOLDER = ROOT / "monitoring"
RULES = [rule for group in document(FOLDER / "prometheus/rules/ytmp3.yml")["groups"] for rule in group["rules"]]
CASES = document(FOLDER / "prometheus/tests/ytmp3.yml")["tests"]
DASHBOARD: Document = json.loads((FOLDER / "grafana/dashboards/ytmp3.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
PROMETHEUS_OWN = {"up": {"job", "instance"}, "ALERTS": {"alertname", "alertstate"}}
SCRAPED = {"job", "instance"}
OF_THE_CONVERTER = {
    "ytmp3_youtube_signs": {"kind"},
    "ytmp3_js_solutions": {"how"},
    "ytmp3_long_tracks": {"how"},
    "ytmp3_cookies_refused": {"identity"},
    "ytmp3_identity_paused": {"identity"},
    "ytmp3_identity_pace": {"identity"},
}
"""Labels of the values that the converter and the engine keep: `app` registers them."""
NOT_SHOWN = {
    "ytmp3_build_info", "ytmp3_memory_resident_bytes", "process_virtual_memory_bytes",
}  # fmt: skip
"""Metrics that no panel and no alert uses: versions, and figures that another metric shows as well."""
OF_THE_VIDEO = {code for code, failure in FAILURES.items() if failure.fault is Fault.VIDEO}
"""Failures that are properties of the video, so no alert fires for them."""


@pytest.fixture(scope="session")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Return the names of all samples that a running service can expose."""
    folder: Path = tmp_path_factory.mktemp("served")
    process = subprocess.Popen(
        [sys.executable, "-m", "ytmp3", "serve"],
        env={"PORT": "0", "DATA_DIR": str(folder), "PATH": "/usr/bin:/bin", "LOG_FORMAT": "json"},
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            address = json.loads(process.stdout.readline())["url"]
            with urlopen(f"{address}/metrics", timeout=60) as answer:
                text = answer.read().decode()
        finally:
            process.terminate()
    return set(_samples(text))


def _samples(text: str) -> Iterator[str]:
    # A metric with labels has no sample before its first event, but it has a type, from which the names follow.
    endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "info": ["_info"]}
    for family in text_string_to_metric_families(text):
        for ending in endings.get(family.type, [""]):
            yield family.name.removesuffix(ending) + ending
        yield from (sample.name for sample in family.samples)


def label_names() -> dict[str, set[str]]:
    """Return the labels of every metric of the service, by its name without suffix."""
    metrics = Metrics()
    of_requests = {family.name: set(family._labelnames) for family in metrics.requests.collect()}
    return (
        of_requests
        | OF_THE_CONVERTER
        | {
            re.sub(r"_(total|info)$", "", metric._name): set(metric._labelnames)
            for metric in vars(metrics).values()
            if hasattr(metric, "_labelnames")
        }
    )


def expressions() -> Iterator[tuple[str, str]]:
    """Yield every expression with the name of the alert, panel or annotation that uses it."""
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    for panel in PANELS:
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"].replace("$instance", ".*")
    for annotation in DASHBOARD["annotations"]["list"]:
        yield f"annotation {annotation['name']}", annotation["expr"]


EXPRESSIONS = dict(expressions())


def selectors(text: str) -> list[promql_parser.VectorSelector]:
    found: list[promql_parser.VectorSelector] = []

    def visit(node: object) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)

    promql_parser.walk(promql_parser.parse(text), visit)
    return found


@pytest.mark.parametrize("name", sorted(EXPRESSIONS))
def test_an_expression_uses_only_metrics_that_are_exposed(name: str, exposed: set[str]) -> None:
    named = selectors(EXPRESSIONS[name])
    assert named
    for selector in named:
        assert selector.name in exposed | set(PROMETHEUS_OWN)


@pytest.mark.parametrize("name", sorted(EXPRESSIONS))
def test_an_expression_selects_labels_and_values_that_exist(name: str) -> None:
    labels = label_names()
    values = {
        "route": {route.path.replace("{job_id}.{extension}", "{file_name}") for route in ROUTES} | {"unknown"},
        "code": {*FailureCode, "", "queue_full", "storage_full", "store_unavailable"},
        "outcome": {"done", "failed", "cancelled"},
        "stage": set(Stage),
        "cause": set(PAUSES),
        "kind": set(Sign),
        "job": {"ytmp3"},
    }
    for selector in selectors(EXPRESSIONS[name]):
        assert selector.name is not None
        bare = re.sub(r"_(total|bucket|sum|count)$", "", selector.name)
        known = labels.get(bare, set()) | PROMETHEUS_OWN.get(selector.name, set()) | SCRAPED
        for matcher in selector.matchers.matchers:
            assert matcher.name in known, f"{selector.name} has no label {matcher.name}"
            if matcher.name in values:
                assert set(matcher.value.split("|")) <= values[matcher.name], f"{selector.name}: {matcher.name}"


def test_every_exposed_metric_is_in_a_panel_or_an_alert(exposed: set[str]) -> None:
    used = {selector.name for text in EXPRESSIONS.values() for selector in selectors(text)}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exposed if not name.endswith("_created")}
    seen = {re.sub(r"_(bucket|sum|count)$", "", name) for name in used if name}
    assert families - seen == NOT_SHOWN


def test_the_failures_alert_covers_every_code_that_is_not_a_property_of_the_video() -> None:
    (rule,) = (rule for rule in RULES if rule["alert"] == "Ytmp3Failures")
    (codes,) = re.findall(r'code=~"([^"]+)"', rule["expr"])
    assert set(codes.split("|")) == set(FailureCode) - OF_THE_VIDEO


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_has_a_severity_and_links_to_its_section_of_the_runbook(rule: Document) -> None:
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert set(rule["annotations"]) == {"summary", "runbook"}
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert anchor == rule["alert"].lower()
    assert f"### {rule['alert']}\n" in (ROOT / page).read_text()


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    cases = Counter((one["alertname"], bool(one["exp_alerts"])) for case in CASES for one in case["alert_rule_test"])
    assert set(cases) == {(rule["alert"], fires) for rule in RULES for fires in (True, False)}
    assert len({case["name"] for case in CASES}) == len(CASES)


def test_the_cases_use_only_metrics_that_are_exposed(exposed: set[str]) -> None:
    for case in CASES:
        for series in case["input_series"]:
            (selector,) = selectors(series["series"])
            assert selector.name in exposed | set(PROMETHEUS_OWN), series["series"]


def test_prometheus_scrapes_every_instance_under_the_job_name_of_the_rules() -> None:
    configuration = document(FOLDER / "prometheus/prometheus.yml")
    (ours,) = (job for job in configuration["scrape_configs"] if job["job_name"] == "ytmp3")
    assert ours["dns_sd_configs"] == [{"names": ["api"], "type": "A", "port": 8080, "refresh_interval": "10s"}]
    assert "metrics_path" not in ours
    assert [path for glob in configuration["rule_files"] for path in (FOLDER / "prometheus").glob(glob)]
    services = compose()["services"]
    assert "back" in services["prometheus"]["networks"]
    targets = [
        target.partition(":")[0]
        for alertmanager in configuration["alerting"]["alertmanagers"]
        for static in alertmanager["static_configs"]
        for target in static["targets"]
    ]
    assert set(targets) <= set(services)


def test_alertmanager_routes_every_severity_in_use() -> None:
    configuration = document(FOLDER / "alertmanager/alertmanager.yml")
    receivers = {receiver["name"] for receiver in configuration["receivers"]}
    route = configuration["route"]
    assert {route["receiver"], *(child["receiver"] for child in route["routes"])} == receivers
    matched = {matcher for child in route["routes"] for matcher in child["matchers"]}
    assert matched <= {f'severity="{rule["labels"]["severity"]}"' for rule in RULES}
    known = {rule["alert"] for rule in RULES}
    for inhibition in configuration["inhibit_rules"]:
        for matcher in inhibition["source_matchers"] + inhibition["target_matchers"]:
            assert set(re.findall(r"Ytmp3\w+", matcher)) <= known


def test_grafana_finds_the_dashboard_and_its_panels_do_not_overlap() -> None:
    provider = document(FOLDER / "grafana/provisioning/dashboards/ytmp3.yml")["providers"][0]
    mounts = dict(volume.split(":")[:2] for volume in compose()["services"]["grafana"]["volumes"])
    assert mounts["./monitoring/grafana/dashboards"] == provider["options"]["path"]
    home = compose()["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/ytmp3.json"
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_every_panel_has_a_description_and_asks_the_chosen_data_source() -> None:
    (source, _) = document(FOLDER / "grafana/provisioning/datasources/prometheus.yml")["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    for panel in PANELS:
        assert panel["description"].endswith("."), panel["title"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}


def test_the_log_collector_reads_only_this_project_and_remembers_its_position() -> None:
    configuration = document(FOLDER / "logs/fluent-bit.yaml")
    (source,) = configuration["pipeline"]["inputs"]
    volumes = compose()["services"]["logs"]["volumes"]
    assert "/var/lib/docker/containers:/var/lib/docker/containers:ro" in volumes
    assert source["path"].startswith("/var/lib/docker/containers/")
    assert "logs:/state" in volumes
    assert source["db"].startswith("/state/")
    assert source["parser"] in {parser["name"] for parser in configuration["parsers"]}
    project = compose()["name"]
    (choice,) = (one for one in configuration["pipeline"]["filters"] if one["name"] == "grep")
    assert choice["regex"] == f"$attrs['com.docker.compose.project'] ^{project}$"
    for service in compose()["services"].values():
        if service["logging"]["driver"] == "json-file":
            assert "com.docker.compose.project" in service["logging"]["options"]["labels"]
