"""docker-compose.yml and .env.example: the schema, the restrictions of containers, and the settings of the service."""

import ipaddress
import re

import pytest

from tests.ops.files import COMPOSE_TEXT, ROOT, Document, checked, compose, document, interpolated, program, variables
from ytmp3.config import load
from ytmp3.variables import VARIABLES

SETTINGS = {variable.name: variable.default for variable in VARIABLES}
FIXED = {"HOST": "0.0.0.0", "PORT": "8080", "DATA_DIR": "/data"}
"""Settings that the image fixes; Compose repeats them."""
DIFFERENT = {
    "REDIS_ADDR": "redis:6379",
    "REDIS_PASSWORD": "only-on-the-internal-network",
    "LOG_FORMAT": "json",
    "ENCODE_CONCURRENCY": "2",
    "TRUSTED_PROXIES": "172.30.80.0/24",
    "ACCEL_REDIRECT_PREFIX": "/protected-tracks/",
}
"""Settings whose default in Compose differs from that of the service, because Compose knows the surroundings."""
SERVICES: dict[str, Document] = compose()["services"]
API = SERVICES["api"]
PASSED = {name: "" if value is None else str(value) for name, value in API["environment"].items()}
"""The environment of the service when the operator has set nothing."""
END_SECONDS = 12
"""How long ending the child processes and the last answers may take after the drain."""


def example() -> dict[str, str]:
    """Return the settings of .env.example. All of them are commented out."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    assert all(line.startswith("#") or not line for line in lines), "every setting in it is commented out"
    pairs = [line[1:].partition("=") for line in lines if re.match(r"#[A-Z]", line)]
    assert len(pairs) == len({name for name, _, _ in pairs})
    return {name: value for name, _, value in pairs}


def test_the_compose_file_follows_the_schema() -> None:
    code, answer = checked(program("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", "docker-compose.yml")
    assert code == 0, answer


def test_every_setting_of_the_service_can_be_set_and_nothing_else_is_passed() -> None:
    assert set(API["environment"]) == set(SETTINGS)


def test_the_service_accepts_the_settings_that_compose_passes() -> None:
    config = load(PASSED)
    assert config.redis is not None
    assert config.redis.address == "redis:6379"
    assert str(config.data_dir) == "/data"
    assert config.host == "0.0.0.0"


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_a_default_in_compose_is_that_of_the_service_unless_listed_here(name: str) -> None:
    assert PASSED[name] == (FIXED | DIFFERENT).get(name, SETTINGS[name])


@pytest.mark.parametrize("name", sorted(set(SETTINGS) - set(FIXED)))
def test_a_setting_in_the_environment_of_compose_reaches_the_service(name: str) -> None:
    assert compose(**{name: "chosen"})["services"]["api"]["environment"][name] == "chosen"


def test_the_example_lists_every_variable_with_its_default() -> None:
    assert example() == variables(COMPOSE_TEXT) | FIXED


def test_the_api_can_be_scaled() -> None:
    assert "container_name" not in API
    assert "ports" not in API
    assert not {"container_name", "hostname"} & {key for service in SERVICES.values() for key in service}
    upstream = (ROOT / "nginx/upstream.conf").read_text()
    assert re.search(r"server api:8080 resolve\b", upstream), "nginx must resolve the instances again while it runs"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_container_is_restricted_in_the_same_way(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true", *(["label=disable"] if name == "logs" else [])]
    assert service["restart"] == "unless-stopped"
    assert service["mem_limit"]
    assert 0 < service["pids_limit"] <= 256
    assert {"max-size", "max-file"} <= set(service["logging"]["options"])
    assert not {"privileged", "network_mode", "pid", "ipc", "devices", "userns_mode"} & set(service)
    assert service.get("cap_add", []) == (["DAC_READ_SEARCH"] if name == "logs" else [])
    assert "docker.sock" not in str(service.get("volumes"))
    # Where no user is named, the image's own user is not root. The log collector must be root to read Docker's files.
    users = {"nginx": "101:10001", "tls": "101:10001", "redis": "999:999", "logs": "0:0", "pot": "10002:10002"}
    assert service.get("user") == users.get(name)


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


def test_every_service_has_a_health_check() -> None:
    # The image of the service has its own check. The log collector's image has no program that could ask. The service
    # itself checks the provider of PO tokens (`po-tokens` in /health), whose JavaScript runtime depends on its release.
    assert {name for name, service in SERVICES.items() if "healthcheck" not in service} == {"api", "logs", "pot"}
    assert "HEALTHCHECK" in (ROOT / "Dockerfile").read_text()


def test_redis_is_configured_not_to_lose_jobs() -> None:
    redis = SERVICES["redis"]
    options = dict(zip(redis["command"][::2], redis["command"][1::2], strict=True))
    assert options["--maxmemory-policy"] == "noeviction"
    assert options["--maxmemory"] == "512mb"
    assert (options["--appendonly"], options["--appendfsync"]) == ("yes", "everysec")
    assert options["--requirepass"] == API["environment"]["REDIS_PASSWORD"] == redis["environment"]["REDISCLI_AUTH"]
    assert redis["volumes"] == ["redis:/data"]


def test_only_the_service_can_reach_redis() -> None:
    assert compose()["networks"]["store"]["internal"] is True
    assert {name for name, service in SERVICES.items() if "store" in service["networks"]} == {"api", "redis"}
    assert SERVICES["redis"]["networks"] == ["store"]


def test_networks_and_volumes_that_are_used_are_declared() -> None:
    file = compose()
    assert {network for service in SERVICES.values() for network in service["networks"]} == set(file["networks"])
    used: set[str] = set()
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume["source"] if isinstance(volume, dict) else volume.split(":")[0]
            if not source.startswith((".", "/")):
                used.add(source)
            elif source.startswith("./") and source not in {"./files", "./tls"}:  # folders that the operator makes
                assert (ROOT / source).exists(), source
    assert used == set(file["volumes"])
    for service in SERVICES.values():
        for needed in service.get("depends_on", []):
            assert "profiles" not in SERVICES[needed], "a profile may be off, so nothing may depend on it"


def test_the_profiles_are_those_that_the_documents_name() -> None:
    profiles = {profile for service in SERVICES.values() for profile in service.get("profiles", [])}
    assert profiles == {"monitoring", "pot", "tls"}
    always = {name for name, service in SERVICES.items() if "profiles" not in service}
    assert always == {"nginx", "api", "redis"}
    assert always | {"tls", "pot", "prometheus", "alertmanager", "grafana", "logs"} == set(SERVICES)


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
    assert "[::]" not in listen + tls, "where the kernel has no IPv6, nginx would not start"
    real_ip = "${REAL_IP_FILE:-./nginx/real_ip.conf}"
    assert real_ip in COMPOSE_TEXT
    assert "listen 8443 ssl " in tls
    assert "/etc/nginx/tls/fullchain.pem" in tls
    for name in ("nginx", "tls"):
        assert SERVICES[name]["entrypoint"] == ["/bin/sh", "/ytmp3/start.sh", "/etc/resolv.conf", "/tmp/resolver.conf"]
        assert SERVICES[name]["command"][:3] == ["nginx", "-c", "/ytmp3/nginx.conf"]
        assert "./nginx:/ytmp3:ro,z" in SERVICES[name]["volumes"]
        assert SERVICES[name]["user"].endswith(":10001"), "nginx reads the tracks as a member of group 10001"
    assert (ROOT / "nginx/process.conf").read_text().count("pid /tmp/") == 1


def test_the_grace_period_is_long_enough_to_drain() -> None:
    grace = int(API["stop_grace_period"].removesuffix("s"))
    assert grace >= int(API["environment"]["DRAIN_SECONDS"]) + END_SECONDS


def test_there_are_as_many_encoders_as_cores() -> None:
    assert int(API["environment"]["ENCODE_CONCURRENCY"]) == int(API["cpus"])


def test_an_unset_or_empty_variable_has_its_default() -> None:
    assert interpolated("a: ${A:-1}\nb: ${B:-}\n", {"A": ""}) == {"a": 1, "b": None}
    assert interpolated("a: ${A:-1}\n", {"A": "2"}) == {"a": 2}


def test_with_a_bucket_no_container_shares_a_folder_of_tracks_with_another() -> None:
    text = (ROOT / "docker-compose.s3.yml").read_text()
    code, answer = checked(
        program("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", "docker-compose.s3.yml"
    )
    assert code == 0, answer
    assert set(variables(text)) <= set(variables(COMPOSE_TEXT))
    changed = interpolated(text, {})["services"]
    # Compose merges mounts by their target, and settings by their name.
    for name in ("nginx", "tls", "api"):
        targets = {m["target"] if isinstance(m, dict) else m.split(":")[1] for m in SERVICES[name]["volumes"]}
        (mount,) = changed[name]["volumes"]
        assert mount["target"] == "/data"
        assert "/data" in targets
        assert "source" not in mount
    settings = PASSED | {name: str(value) for name, value in changed["api"]["environment"].items()}
    config = load(settings)
    assert config.s3 is not None
    assert config.redis is not None


def test_the_yaml_files_pass_yamllint() -> None:
    code, answer = checked(program("yamllint"), "--strict", "--config-data", YAMLLINT, *YAML_FILES)
    assert code == 0, answer
    assert document(ROOT / "docker-compose.yml")["name"] == "ytmp3"


YAML_FILES = ("docker-compose.yml", "docker-compose.s3.yml", "k8s", "monitoring")
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
