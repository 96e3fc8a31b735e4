"""docs/operating.md points at what exists: services, files, sections, settings, alerts."""

import re

from tests.ops.files import COMPOSE_TEXT, ROOT, compose, document, manifests, variables
from ytmp3.variables import VARIABLES

PAGE = (ROOT / "docs/operating.md").read_text()
HEADINGS = re.findall(r"^#{2,3} (.+)$", re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL), re.MULTILINE)
ANCHORS = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in HEADINGS}
RULES = document(ROOT / "monitoring/prometheus/rules/ytmp3.yml")["groups"]
ALERTS = {rule["alert"] for group in RULES for rule in group["rules"]}
NOT_SETTINGS = {"DAC_READ_SEARCH", "REDISCLI_AUTH", "VIDEO_ID", "JOB_ID", "CONVERSION_ID"}


def test_every_alert_has_its_section_and_every_such_section_its_alert() -> None:
    assert {heading for heading in HEADINGS if heading.startswith("Ytmp3")} == ALERTS


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        path, _, anchor = target.partition("#")
        if path:
            assert (ROOT / "docs" / path).exists(), target
        else:
            assert anchor in ANCHORS, target


def test_the_contents_name_every_section() -> None:
    listed = set(re.findall(r"\]\(#([\w-]+)\)", PAGE.partition("\n## ")[0]))
    sections = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
    assert listed == {section.lower().replace(" ", "-") for section in sections}


def test_files_that_are_named_exist() -> None:
    for name in re.findall(r"`((?:k8s|nginx|monitoring|scripts)/[\w./-]+)`", PAGE):
        assert (ROOT / name).exists(), name


def test_commands_speak_to_services_and_objects_that_exist() -> None:
    services = set(compose()["services"])
    commands = re.findall(r"docker-compose ([^\n`]+)", PAGE)
    named = {
        service
        for command in commands
        for service in re.findall(
            r"\b(?:exec(?: --index \d)?|logs(?: -{1,2}[\w-]+(?: \d+m?)?)*|top|ps|stop) (\w+)\b", command
        )
    }
    assert {"api", "redis", "nginx", "tls"} <= named
    assert named <= services, named - services
    assert {profile for command in commands for profile in re.findall(r"--profile (\w+)", command)} <= {
        profile for service in compose()["services"].values() for profile in service.get("profiles", [])
    }
    names = {one["metadata"]["name"] for one in manifests()}
    assert set(re.findall(r"(?:deployment |deploy/|hpa )([\w-]+)", PAGE)) <= names


def test_settings_that_are_named_exist() -> None:
    known = {variable.name for variable in VARIABLES} | set(variables(COMPOSE_TEXT)) | NOT_SETTINGS
    named = set(re.findall(r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]*[A-Z0-9]\b", PAGE))
    assert named <= known, named - known


def test_the_troubleshooting_of_the_product_is_there() -> None:
    for case in ("High memory usage", "Slow response times", "Failed conversions"):
        assert case in HEADINGS
    for command in (
        "curl http://localhost:8080/health",
        "redis-cli ping",
        "docker-compose logs -f api",
        "--scale api=3",
    ):
        assert command in PAGE
