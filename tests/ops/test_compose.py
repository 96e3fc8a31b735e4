"""docker-compose.yml and .env.example: the schema, the walls, and the settings as the service itself reads them."""

import ipaddress
import re

import pytest

from scripts.env_example import FIXED, refreshed
from tests.ops.files import COMPOSE_TEXT, ROOT, Document, compose, document, interpolated, program, said, variables
from ytmp3.config import load
from ytmp3.variables import VARIABLES

SETTINGS = {variable.name: variable.default for variable in VARIABLES}
DIFFERENT = {
    "REDIS_ADDR": "redis:6379",
    "REDIS_PASSWORD": "only-on-the-internal-network",
    "LOG_FORMAT": "json",
    "ENCODE_CONCURRENCY": "2",
    "TRUSTED_PROXIES": "172.30.80.0/24",
    "ACCEL_REDIRECT_PREFIX": "/protected-tracks/",
}
"""Where Compose has another default than the service, because it knows the surroundings."""
SERVICES: dict[str, Document] = compose()["services"]
API = SERVICES["api"]
PASSED = {name: "" if value is None else str(value) for name, value in API["environment"].items()}
"""What the service finds in its environment when nothing is set outside."""
ROOM_TO_END_SECONDS = 12


def example() -> dict[str, str]:
    """The settings of .env.example, all of them behind a mark."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    assert all(line.startswith("#") or not line for line in lines), "nothing in it is in force"
    pairs = [line[1:].partition("=") for line in lines if re.match(r"#[A-Z]", line)]
    assert len(pairs) == len({name for name, _, _ in pairs})
    return {name: value for name, _, value in pairs}


def test_it_follows_the_schema() -> None:
    code, answer = said(program("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", "docker-compose.yml")
    assert code == 0, answer


def test_every_setting_of_the_service_can_be_set_and_nothing_else_is_passed() -> None:
    assert set(API["environment"]) == set(SETTINGS)


def test_the_service_takes_the_settings_as_they_are_passed() -> None:
    config = load(PASSED)
    assert config.redis is not None
    assert config.redis.address == "redis:6379"
    assert str(config.data_dir) == "/data"
    assert config.host == "0.0.0.0"


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_a_default_is_the_services_own_or_is_named_here(name: str) -> None:
    assert PASSED[name] == (FIXED | DIFFERENT).get(name, SETTINGS[name])


@pytest.mark.parametrize("name", sorted(set(SETTINGS) - set(FIXED)))
def test_a_setting_in_the_environment_reaches_the_service(name: str) -> None:
    assert compose(**{name: "chosen"})["services"]["api"]["environment"][name] == "chosen"


def test_the_example_lists_every_variable_with_its_default() -> None:
    assert example() == variables(COMPOSE_TEXT) | FIXED


def test_the_example_is_current() -> None:
    text = (ROOT / ".env.example").read_text()
    assert refreshed(text) == text, "run `make docs`"


def test_the_api_can_be_scaled() -> None:
    assert "container_name" not in API
    assert "ports" not in API
    assert not {"container_name", "hostname"} & {key for service in SERVICES.values() for key in service}
    upstream = (ROOT / "nginx/upstream.conf").read_text()
    assert re.search(r"server api:8080 resolve\b", upstream), "nginx asks for the instances again while it runs"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_service_stands_behind_the_same_walls(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert service["mem_limit"]
    assert 0 < service["pids_limit"] <= 256
    assert {"max-size", "max-file"} <= set(service["logging"]["options"])
    assert not {"privileged", "network_mode", "pid", "ipc", "devices", "userns_mode"} & set(service)
    assert service.get("cap_add", []) == (["DAC_READ_SEARCH"] if name == "logs" else [])
    assert "docker.sock" not in str(service["volumes"])
    # The image's own user is an ordinary one where none is named, but for the collector, which must read root's files.
    assert service.get("user") == {"nginx": "101:10001", "tls": "101:10001", "redis": "999:999", "logs": "0:0"}.get(
        name
    )


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_image_has_a_version_and_can_be_pinned(name: str) -> None:
    image = SERVICES[name]["image"]
    assert re.fullmatch(r"[\w./-]+:v?\d[\w.-]*", image), image
    assert re.search(rf"\$\{{\w+_IMAGE:-{re.escape(image)}\}}", COMPOSE_TEXT)


def test_only_nginx_is_open_to_other_machines() -> None:
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert ports.pop("nginx") == ["8080:8080"]
    assert ports.pop("tls") == ["443:8443"]
    assert set(ports) == {"prometheus", "alertmanager", "grafana"}
    assert all(port.startswith("127.0.0.1:") for opened in ports.values() for port in opened)


def test_every_long_running_service_says_whether_it_is_well() -> None:
    # The image of the API brings its own; the collector's has neither a shell nor a client to ask with.
    assert {name for name, service in SERVICES.items() if "healthcheck" not in service} == {"api", "logs"}
    assert "HEALTHCHECK" in (ROOT / "Dockerfile").read_text()


def test_redis_keeps_what_it_is_given() -> None:
    redis = SERVICES["redis"]
    options = dict(zip(redis["command"][::2], redis["command"][1::2], strict=True))
    assert options["--maxmemory-policy"] == "noeviction"
    assert options["--maxmemory"] == "512mb"
    assert (options["--appendonly"], options["--appendfsync"]) == ("yes", "everysec")
    assert options["--requirepass"] == API["environment"]["REDIS_PASSWORD"] == redis["environment"]["REDISCLI_AUTH"]
    assert redis["volumes"] == ["redis:/data"]


def test_redis_is_reached_by_the_api_alone() -> None:
    assert compose()["networks"]["store"]["internal"] is True
    assert {name for name, service in SERVICES.items() if "store" in service["networks"]} == {"api", "redis"}
    assert SERVICES["redis"]["networks"] == ["store"]


def test_names_that_are_used_are_declared() -> None:
    file = compose()
    assert {network for service in SERVICES.values() for network in service["networks"]} == set(file["networks"])
    used: set[str] = set()
    for service in SERVICES.values():
        for volume in service["volumes"]:
            source = volume["source"] if isinstance(volume, dict) else volume.split(":")[0]
            if not source.startswith((".", "/")):
                used.add(source)
            elif source.startswith("./") and source not in {"./files", "./tls"}:  # the operator's own
                assert (ROOT / source).exists(), source
    assert used == set(file["volumes"])
    for service in SERVICES.values():
        for needed in service.get("depends_on", []):
            assert "profiles" not in SERVICES[needed], "what is not started cannot be waited for"


def test_the_profiles_are_those_that_the_documents_name() -> None:
    profiles = {profile for service in SERVICES.values() for profile in service.get("profiles", [])}
    assert profiles == {"monitoring", "tls"}
    always = {name for name, service in SERVICES.items() if "profiles" not in service}
    assert always == {"nginx", "api", "redis"}
    assert always | {"tls", "prometheus", "alertmanager", "grafana", "logs"} == set(SERVICES)


def test_nginx_and_the_service_agree_on_network_folder_and_ports() -> None:
    (network,) = compose()["networks"]["back"]["ipam"]["config"]
    assert API["environment"]["TRUSTED_PROXIES"] == network["subnet"]
    assert ipaddress.ip_network(network["subnet"]).is_private
    site, listen, tls = (
        (ROOT / "nginx" / name).read_text() for name in ("site.conf", "listen.conf", "tls.conf.example")
    )
    prefix = API["environment"]["ACCEL_REDIRECT_PREFIX"]
    assert re.search(rf"location {re.escape(prefix)} \{{\s+internal;", site)
    assert "set $tracks_folder /data/tracks;" in listen
    assert "set $tracks_folder /data/tracks;" in tls
    assert "listen 8080 " in listen
    assert "listen 8443 ssl " in tls
    assert "/etc/nginx/tls/fullchain.pem" in tls
    for name in ("nginx", "tls"):
        assert SERVICES[name]["entrypoint"][:3] == ["nginx", "-c", "/ytmp3/nginx.conf"]
        assert "./nginx:/ytmp3:ro" in SERVICES[name]["volumes"]
        assert SERVICES[name]["user"].endswith(":10001"), "the folders of the tracks are open to the service's group"
    assert (ROOT / "nginx/process.conf").read_text().count("pid /tmp/") == 1


def test_there_is_time_to_drain() -> None:
    grace = int(API["stop_grace_period"].removesuffix("s"))
    assert grace >= int(API["environment"]["DRAIN_SECONDS"]) + ROOM_TO_END_SECONDS


def test_there_is_one_encoder_more_than_cores() -> None:
    assert int(API["environment"]["ENCODE_CONCURRENCY"]) == int(API["cpus"])


def test_filling_in_follows_composes_rule() -> None:
    assert interpolated("a: ${A:-1}\nb: ${B:-}\n", {"A": ""}) == {"a": 1, "b": None}
    assert interpolated("a: ${A:-1}\n", {"A": "2"}) == {"a": 2}


def test_no_key_is_written_twice() -> None:
    code, answer = said(
        program("yamllint"), "--strict", "--config-data", YAMLLINT, "docker-compose.yml", "k8s", "monitoring"
    )
    assert code == 0, answer
    assert document(ROOT / "docker-compose.yml")["name"] == "ytmp3"


YAMLLINT = """
extends: default
rules:
  line-length: disable            # expressions of the alert rules
  document-start: disable
  braces: {max-spaces-inside: 0}
  comments: {min-spaces-from-content: 2}
  truthy: {check-keys: false, allowed-values: ["true", "false", "on", "off"]}
  indentation: {indent-sequences: consistent}
  octal-values: disable           # defaultMode is one
"""
