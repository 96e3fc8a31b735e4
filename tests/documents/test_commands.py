"""The commands in the documents speak of services, objects, settings and make targets that exist."""

import argparse
import json
import re

import pytest

from tests.documents.pages import DOCS, PAGES, ROOT, Page, rows
from tests.ops.files import COMPOSE_TEXT, compose, document, manifests, variables
from ytmp3.cli_arguments import add_doctor, add_extractor
from ytmp3.config import load
from ytmp3.core import release
from ytmp3.core.examination import Outcome
from ytmp3.variables import VARIABLES

RULES = document(ROOT / "monitoring/prometheus/rules/ytmp3.yml")["groups"]
ALERTS = {rule["alert"] for group in RULES for rule in group["rules"]}
SUBCOMMANDS = re.compile(r"\b(?:exec(?: --index \d)?|logs(?: -{1,2}[\w-]+(?: \d+m?)?)*|top|ps|stop) (\w+)\b")
"""The subcommands of Compose that are followed by the name of a service."""
OTHER_NAMES = {
    "DAC_READ_SEARCH",
    "REDISCLI_AUTH",
    "JOB_ID",
    "BATCH_ID",
    "CONVERSION_ID",
    "LEASE_LOST",
    "LOGIN_INFO",
    "HYPOTHESIS_PROFILE",
    "YTMP3_API_KEY",
    "YTMP3_SERVER",
    "NODE_FUNCTION_ALLOW_BUILTIN",
    "CONFIG_SECURITY_LANDLOCK",
    "CONFIG_SECCOMP_FILTER",
    "PR_SET_DUMPABLE",
    "AWS_ACCESS_KEY_ID",
    "AWS_ENDPOINT_URL_S3",
    "AWS_SERVER_SIDE_ENCRYPTION",
    "AWS_SESSION_TOKEN",
    "MP3GAIN_UNDO",
    "R128_TRACK_GAIN",
    "REPLAYGAIN_TRACK_GAIN",
    "REPLAYGAIN_TRACK_PEAK",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
}
"""Names in capitals that are no settings: a capability, a variable of redis-cli, placeholders, a test's variable, those
of the client, one of n8n, those that Python's HTTP client and the S3 library follow."""
DAY = DOCS["runbook"].section("The day YouTube changes")
PRODUCT_COMMANDS = (
    "up -d", "up -d --scale api=3", "logs -f api", "exec redis redis-cli ping",
)  # fmt: skip


def compose_commands(page: Page) -> list[str]:
    return re.findall(r"docker[ -]compose ([^\n`]+)", page.text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_compose_commands_name_services_and_profiles_that_exist(page: Page) -> None:
    services = compose()["services"]
    profiles = {profile for service in services.values() for profile in service.get("profiles", [])}
    for command in compose_commands(page):
        assert set(SUBCOMMANDS.findall(command)) <= set(services), command
        assert set(re.findall(r"--profile (\w+)", command)) <= profiles, command


def test_the_runbook_explains_every_exit_code_of_the_doctor() -> None:
    explained = {row[0] for row in rows(DAY)}
    assert explained == {"2"} | {str(int(outcome)) for outcome in Outcome}


def operator_commands() -> argparse.ArgumentParser:
    """Return the parser of the commands that the runbook uses on the day YouTube changes."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    commands = parser.add_subparsers(dest="command", required=True)
    add_doctor(commands)
    add_extractor(commands)
    return parser


def test_the_five_commands_are_the_same_for_compose_and_kubernetes_and_exist() -> None:
    compose_block, kubernetes = re.findall(r"```bash\n(.*?)```", DAY, re.DOTALL)
    found = []
    for block, place in (
        (compose_block, r"docker compose exec (?:-T )?api "),
        (kubernetes, r"kubectl -n ytmp3 exec \S+ -- "),
    ):
        lines = [line.partition("#")[0].strip() for line in block.splitlines()]
        assert len(lines) == 5
        given = [re.fullmatch(rf"{place}python -m ytmp3 (.*?)(?: > report.txt)?", line) for line in lines]
        assert [each is not None for each in given] == [True, False, True, True, True]
        found.append([operator_commands().parse_args(each[1].split()) for each in given if each is not None])
    assert found[0] == found[1]
    assert lines[1].endswith("rollout status deploy/ytmp3-api")


def test_the_settings_of_the_five_commands_reach_the_containers() -> None:
    named = set(re.findall(r"`([A-Z_]+)=", DAY)) - {"HTTPS_PROXY"}
    assert named == {"YOUTUBE_CLIENTS", "YTDLP_INDEX"}
    example = (ROOT / ".env.example").read_text()
    for name in named:
        assert f"      {name}: ${{{name}:-}}\n" in COMPOSE_TEXT
        assert f"\n#{name}=" in example
    (api,) = (each for each in manifests() if each["metadata"]["name"] == "ytmp3-api" and each["kind"] == "Deployment")
    (container,) = api["spec"]["template"]["spec"]["containers"]
    assert container["envFrom"] == [{"configMapRef": {"name": "ytmp3"}}]
    (secret,) = (each["valueFrom"]["secretKeyRef"] for each in container["env"] if each["name"] == "YTDLP_INDEX")
    # A missing key leaves the value of the ConfigMap.
    assert secret["optional"] is True
    assert f'"{secret["key"]}":' in DAY
    url = "https://USER:PASSWORD@index.example/simple"
    assert load({"YTDLP_INDEX": url}).tools.package_index == url
    assert url in DAY


def test_the_exit_codes_of_the_extractor_command_are_explained() -> None:
    table = {row[0]: row[1] for row in rows(DOCS["operating"].section("Without a restart"))}
    assert table == {str(int(ended)): meaning for ended, meaning in release.MEANINGS.items()}


def test_every_service_that_an_operator_touches_is_in_a_command() -> None:
    named = {name for page in DOCS.values() for line in compose_commands(page) for name in SUBCOMMANDS.findall(line)}
    assert {"api", "redis", "nginx", "tls"} <= named


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_kubectl_commands_name_objects_that_exist(page: Page) -> None:
    names = {manifest["metadata"]["name"] for manifest in manifests()}
    assert set(re.findall(r"(?:deployment |deploy/|hpa )(ytmp3[\w-]*)", page.text)) <= names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_that_are_named_exist(page: Page) -> None:
    known = {variable.name for variable in VARIABLES} | set(variables(COMPOSE_TEXT)) | OTHER_NAMES
    named = set(re.findall(r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]*[A-Z0-9]\b", page.text))
    assert named <= known, named - known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_that_are_named_exist(page: Page) -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"(?:^|`|[A-Z0-9_.]+=\S+ )make ([a-z-]+)", page.text, re.MULTILINE))
    assert named <= targets, named - targets


def test_log_events_that_the_documents_name_exist() -> None:
    named = {row[0].strip("`") for row in rows(DOCS["operating"].section("Logs"))}
    named |= {"keys not reloaded", "yt-dlp output"}
    assert len(named) > 10
    sources = "".join(path.read_text() for path in (ROOT / "ytmp3").rglob("*.py"))
    assert {event for event in named if f'"{event}"' not in sources} == set()


def test_every_alert_has_its_section_in_the_runbook_and_every_such_section_its_alert() -> None:
    assert {title for title in DOCS["runbook"].headings() if title.startswith("Ytmp3")} == ALERTS


def test_the_panels_that_the_operating_page_names_are_on_the_dashboard() -> None:
    dashboard = json.loads((ROOT / "monitoring/grafana/dashboards/ytmp3.json").read_text())
    titles = {panel["title"] for panel in dashboard["panels"]}
    named = re.findall(r"(?<!\*)\*([A-Z][^*\n]+(?:\n[^*\n]+)?)\*(?!\*)", DOCS["operating"].section("The dashboard"))
    assert len(named) >= 5
    assert {" ".join(name.split()) for name in named} <= titles


def test_the_three_common_faults_have_their_sections_in_the_runbook() -> None:
    assert {"High memory usage", "Slow response times", "Failed conversions"} <= set(DOCS["runbook"].headings(2))


@pytest.mark.parametrize("command", PRODUCT_COMMANDS)
def test_the_main_commands_are_explained(command: str) -> None:
    assert any(line.startswith(command) for page in DOCS.values() for line in compose_commands(page))
