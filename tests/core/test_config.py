"""Settings: the default, good values and bad values of each variable, and where its value goes.

All bad variables are named at once, and no value is shown.
"""

import ipaddress
import operator
import os
import sys
from pathlib import Path

import pytest

from tests.core.bad_settings import BAD
from tests.core.setting_places import PLACES
from ytmp3.config import ConfigError, load, misspelt
from ytmp3.variables import VARIABLES
from ytmp3.webhooks.settings import PrivateHosts

SAMPLES = Path(__file__).parent / "samples"

IN_OTHER_UNITS = {"JOB_EXPIRATION_HOURS": 3600, "MAX_FILE_MB": 1_000_000, "DISK_RESERVE_MB": 1_000_000}
"""The factor by which the code's unit is smaller than the operator's."""

DEFAULTS: dict[str, object] = {
    "REDIS_ADDR": None,
    "REDIS_PASSWORD": None,
    "REDIS_DB": None,
    "REDIS_PREFIX": None,
    "REDIS_REPLICA_READS": None,
    "WORKER_POOL_SIZE": 20,
    "JOB_QUEUE_CAPACITY": 1000,
    "MAX_JOB_RETRIES": 3,
    "REQUESTS_PER_SECOND": 100.0,
    "BURST_SIZE": 200,
    "JOB_EXPIRATION_HOURS": 24.0,
    "HOST": "127.0.0.1",
    "PORT": 8080,
    "DATA_DIR": Path("~/.local/share/ytmp3").expanduser(),
    "DISK_RESERVE_MB": 0,
    "LOG_FORMAT": "auto",
    "LOG_LEVEL": "info",
    "ACCESS_LOG": False,
    "FFMPEG_PATH": None,
    "SANDBOX": False,
    "PAGE": True,
    "EXTRACT_CONCURRENCY": 4,
    "ENCODE_CONCURRENCY": os.cpu_count() or 1,
    "MAX_DURATION_SECONDS": 10_800,
    "MAX_FILE_MB": 500,
    "EXTRACT_SECONDS": 60.0,
    "DOWNLOAD_SECONDS": 900.0,
    "ENCODE_SECONDS": 600.0,
    "IDLE_SECONDS": 60.0,
    "LEASE_SECONDS": 30.0,
    "DRAIN_SECONDS": 20.0,
    "TRUSTED_PROXIES": (),
    "ACCEL_REDIRECT_PREFIX": "",
    "CORS_ORIGINS": frozenset(),
    "PUBLIC_URL": "",
    "API_KEYS_FILE": None,
    "WEBHOOKS_FILE": None,
    "WEBHOOK_PRIVATE_HOSTS": PrivateHosts(),
    "DOWNLOAD_LINK_SECONDS": 0,
    "CLIENT_REQUESTS_PER_SECOND": 0.0,
    "CLIENT_BURST_SIZE": 0,
    "CLIENT_MAX_JOBS": 0,
    "CLIENT_MAX_KEPT_JOBS": 100_000,
    "BATCH_MAX_ITEMS": 1000,
    "CLIENT_MAX_DOWNLOADS": 0,
    "MAX_STREAMS": 2000,
    "CLIENT_MAX_STREAMS": 100,
    "STORAGE_URL": None,
    "S3_ENDPOINT": None,
    "S3_PUBLIC_ENDPOINT": None,
    "S3_REGION": None,
    "S3_ACCESS_KEY_ID": None,
    "S3_SECRET_ACCESS_KEY": None,
    "S3_PATH_STYLE": None,
    "S3_CA_FILE": None,
    "S3_DOWNLOAD": None,
    "LINK_SECRET": "",
    "EGRESS_PROXY": None,
    "POT_PROVIDER_URL": None,
    "YTDLP_INDEX": None,
    "YTDLP_UPDATE": "off",
    "YTDLP_CANARY_URLS": (),
    "EGRESS_CA_FILE": None,
    "EGRESS_FAMILY": "auto",
    "EGRESS_SOURCE_ADDRESS": None,
    "EGRESS_VIDEOS_PER_HOUR": 240,
    "IDENTITIES_FILE": None,
    "COOKIES_FILE": None,
    "YOUTUBE_CLIENTS": (),
    "YTDLP_EXTRACTOR_ARGS": {},
}

GOOD: list[tuple[str, str, object]] = [
    ("REDIS_ADDR", "redis:6379", "redis:6379"),
    ("REDIS_ADDR", "rediss://user:pw@redis.example:6380", "rediss://user:pw@redis.example:6380"),
    ("REDIS_ADDR", "unix:///run/redis.sock", "unix:///run/redis.sock"),
    ("REDIS_ADDR", "[::1]:6379", "[::1]:6379"),
    ("REDIS_ADDR", "redis://redis/3", "redis://redis/3"),
    ("REDIS_ADDR", "rediss://redis?ssl_ca_certs=/ca.pem", "rediss://redis?ssl_ca_certs=/ca.pem"),
    ("REDIS_ADDR", "unix:///run/redis.sock?db=3", "unix:///run/redis.sock?db=3"),
    ("REDIS_ADDR", "one:7000,two:7001", "one:7000,two:7001"),
    (
        "REDIS_ADDR",
        "rediss://user:p,w@one,[::1]:7001?ssl_ca_certs=/ca.pem",
        "rediss://user:p,w@one,[::1]:7001?ssl_ca_certs=/ca.pem",
    ),
    ("REDIS_ADDR", "cluster://redis-nodes/0", "cluster://redis-nodes/0"),
    ("REDIS_PASSWORD", "p w#1", "p w#1"),
    ("REDIS_DB", "15", 15),
    ("REDIS_PREFIX", "shop-1.a_B", "shop-1.a_B"),
    ("REDIS_REPLICA_READS", "off", False),
    ("WORKER_POOL_SIZE", "1", 1),
    ("JOB_QUEUE_CAPACITY", "1000000", 1_000_000),
    ("MAX_JOB_RETRIES", "0", 0),
    ("REQUESTS_PER_SECOND", "0.5", 0.5),
    ("BURST_SIZE", "100", 100),
    ("JOB_EXPIRATION_HOURS", "0.01", 0.01),
    ("HOST", "0.0.0.0", "0.0.0.0"),
    ("PORT", "0", 0),
    ("PORT", " 65535 ", 65_535),
    ("DATA_DIR", "/srv/ytmp3", Path("/srv/ytmp3")),
    ("DATA_DIR", "data", Path("data").absolute()),
    ("DISK_RESERVE_MB", "2048", 2048),
    ("LOG_FORMAT", "JSON", "json"),
    ("LOG_LEVEL", "Warning", "warning"),
    ("ACCESS_LOG", "on", True),
    ("FFMPEG_PATH", sys.executable, Path(sys.executable)),
    ("SANDBOX", "required", True),
    ("PAGE", "off", False),
    ("EXTRACT_CONCURRENCY", "8", 8),
    ("ENCODE_CONCURRENCY", "3", 3),
    ("MAX_DURATION_SECONDS", "60", 60),
    ("MAX_FILE_MB", "1", 1),
    ("EXTRACT_SECONDS", "1", 1.0),
    ("DOWNLOAD_SECONDS", "86400", 86_400.0),
    ("ENCODE_SECONDS", "1200", 1200.0),
    ("IDLE_SECONDS", "2.5", 2.5),
    ("LEASE_SECONDS", "1", 1.0),
    ("DRAIN_SECONDS", "0", 0.0),
    (
        "TRUSTED_PROXIES",
        "10.0.0.0/8, ::1 192.0.2.7",
        (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1"), ipaddress.ip_network("192.0.2.7")),
    ),
    ("ACCEL_REDIRECT_PREFIX", "/protected/", "/protected/"),
    (
        "CORS_ORIGINS",
        "https://a.example, http://localhost:3000",
        frozenset({"https://a.example", "http://localhost:3000"}),
    ),
    ("PUBLIC_URL", "https://example.org", ""),
    ("PUBLIC_URL", "https://example.org:8443/music/ytmp3/", "/music/ytmp3"),
    ("API_KEYS_FILE", __file__, Path(__file__)),
    ("WEBHOOKS_FILE", __file__, Path(__file__)),
    (
        "WEBHOOK_PRIVATE_HOSTS",
        "Home.Local, 10.0.0.0/8 ::1",
        PrivateHosts(
            names=frozenset({"home.local"}),
            networks=(ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1")),
        ),
    ),
    ("DOWNLOAD_LINK_SECONDS", "3600", 3600),
    ("CLIENT_REQUESTS_PER_SECOND", "2.5", 2.5),
    ("CLIENT_BURST_SIZE", "10", 10),
    ("CLIENT_MAX_JOBS", "100", 100),
    ("CLIENT_MAX_KEPT_JOBS", "5000", 5000),
    ("BATCH_MAX_ITEMS", "200", 200),
    ("CLIENT_MAX_DOWNLOADS", "8", 8),
    ("MAX_STREAMS", "0", 0),
    ("CLIENT_MAX_STREAMS", "8", 8),
    ("EGRESS_PROXY", "socks5://proxy:1080", "socks5://proxy:1080"),
    ("POT_PROVIDER_URL", "http://pot:4416/", "http://pot:4416"),
    ("YTDLP_INDEX", "https://index.example/simple/", "https://index.example/simple"),
    ("YTDLP_UPDATE", "Nightly", "nightly"),
    ("YTDLP_CANARY_URLS", "https://youtu.be/aqz-KE-bpKQ  youtu.be/aqz-KE-bpKQ", ("aqz-KE-bpKQ",)),
    ("POT_PROVIDER_URL", "https://pot.example/path", "https://pot.example/path"),
    ("EGRESS_PROXY", "http://u:p@proxy:3128", "http://u:p@proxy:3128"),
    ("EGRESS_CA_FILE", str(SAMPLES / "ca.pem"), SAMPLES / "ca.pem"),
    ("EGRESS_FAMILY", "6", "6"),
    ("EGRESS_SOURCE_ADDRESS", "2001:DB8::1", "2001:db8::1"),
    ("EGRESS_VIDEOS_PER_HOUR", "0", 0),
    ("IDENTITIES_FILE", __file__, Path(__file__)),
    ("COOKIES_FILE", str(SAMPLES / "cookies.txt"), SAMPLES / "cookies.txt"),
    ("STORAGE_URL", "s3://tracks", "tracks"),
    ("STORAGE_URL", "s3://my.tracks/a/b-c/", "my.tracks"),
    ("S3_ENDPOINT", "https://s3.example.org:9000/", "https://s3.example.org:9000"),
    ("S3_PUBLIC_ENDPOINT", "http://192.0.2.1:9000", "http://192.0.2.1:9000"),
    ("S3_REGION", "eu-central-1", "eu-central-1"),
    ("S3_ACCESS_KEY_ID", "an id", "an id"),
    ("S3_SECRET_ACCESS_KEY", "a/b+c", "a/b+c"),
    ("S3_PATH_STYLE", "on", True),
    ("S3_PATH_STYLE", "off", False),
    ("S3_CA_FILE", str(SAMPLES / "ca.pem"), SAMPLES / "ca.pem"),
    ("S3_DOWNLOAD", "redirect", True),
    ("LINK_SECRET", "x" * 32, "x" * 32),
    ("YOUTUBE_CLIENTS", "visionos,tv+web,default", (("visionos",), ("tv", "web"), ("default",))),
    ("YTDLP_EXTRACTOR_ARGS", "youtube:player_client=visionos", {"player_client": ("visionos",)}),
    (
        "YTDLP_EXTRACTOR_ARGS",
        "youtube:player_client=default,-web;skip=hls",
        {"player_client": ("default", "-web"), "skip": ("hls",)},
    ),
]

ANY_TEXT_WILL_DO = {"REDIS_PASSWORD", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY", "HOST", "DATA_DIR"}
BUCKET = {"STORAGE_URL": "s3://tracks", "S3_ACCESS_KEY_ID": "key", "S3_SECRET_ACCESS_KEY": "secret"}


def test_every_variable_is_tested_here() -> None:
    names = {variable.name for variable in VARIABLES}
    assert names == set(DEFAULTS) == {name for name, _, _ in GOOD} == set(BAD) | ANY_TEXT_WILL_DO
    assert not set(BAD) & ANY_TEXT_WILL_DO
    assert names == set(PLACES)
    assert len(set(PLACES.values())) == len(names)


def value_of(name: str, environ: dict[str, str]) -> object:
    """The value of one variable, in the operator's unit; None for a setting of a Redis or a bucket that is not used."""
    config = load(environ)
    if (name.startswith("REDIS_") and config.redis is None) or (PLACES[name].startswith("s3.") and config.s3 is None):
        return None
    value = operator.attrgetter(PLACES[name])(config)
    return value / IN_OTHER_UNITS[name] if name in IN_OTHER_UNITS else value


def test_an_empty_environment_gives_the_defaults() -> None:
    assert {name: value_of(name, {}) for name in DEFAULTS} == DEFAULTS


def test_only_a_cluster_has_replicas_to_read_from_and_only_the_first_database() -> None:
    cluster = {"REDIS_ADDR": "one:6379,two:6379"}
    assert value_of("REDIS_REPLICA_READS", cluster | {"REDIS_REPLICA_READS": "on"}) is True
    for environ, name in (
        ({"REDIS_ADDR": "one:6379", "REDIS_REPLICA_READS": "on"}, "REDIS_REPLICA_READS"),
        ({"REDIS_REPLICA_READS": "on"}, "REDIS_REPLICA_READS"),
        (cluster | {"REDIS_DB": "1"}, "REDIS_DB"),
    ):
        with pytest.raises(ConfigError) as caught:
            load(environ)
        assert [problem.partition(":")[0] for problem in caught.value.problems] == [name]


def test_a_redis_without_password_and_number_gets_the_defaults() -> None:
    environ = {"REDIS_ADDR": "redis:6379"}
    assert (value_of("REDIS_PASSWORD", environ), value_of("REDIS_DB", environ)) == ("", 0)


@pytest.mark.parametrize("blank", ["", "   "])
def test_an_empty_variable_is_an_absent_one(blank: str) -> None:
    assert load(dict.fromkeys(DEFAULTS, blank)) == load({})


@pytest.mark.parametrize(("name", "text", "value"), GOOD)
def test_a_good_value_is_read(name: str, text: str, value: object) -> None:
    others = {"REDIS_ADDR": "redis:6379", "YTDLP_INDEX": "https://index.example"}
    storage = BUCKET if PLACES[name].startswith("s3.") else {}
    assert value_of(name, others | storage | {name: text}) == value


@pytest.mark.parametrize(
    ("name", "text"), [(name, text) for name, texts in BAD.items() for text in texts], ids=lambda text: text[:20]
)
def test_a_bad_value_is_refused_with_the_form_and_without_the_value(name: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({name: text})
    form = next(variable.form for variable in VARIABLES if variable.name == name)
    assert caught.value.problems == [f"{name}: expected {form}"]
    assert "\n" not in caught.value.problems[0]


def test_all_bad_variables_are_named_at_once_without_their_values() -> None:
    environ = {name: texts[0] for name, texts in BAD.items()} | {"REDIS_PASSWORD": "hunter2"}
    environ["EGRESS_PROXY"] = "ftp://user:hunter2@proxy"
    with pytest.raises(ConfigError) as caught:
        load(environ)
    assert [problem.split(":")[0] for problem in caught.value.problems] == [v.name for v in VARIABLES if v.name in BAD]
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"REQUESTS_PER_SECOND": "500"}, "BURST_SIZE"),
        ({"BURST_SIZE": "99"}, "BURST_SIZE"),
        ({"CLIENT_REQUESTS_PER_SECOND": "5", "CLIENT_BURST_SIZE": "4"}, "CLIENT_BURST_SIZE"),
        ({"YTDLP_UPDATE": "stable"}, "YTDLP_UPDATE"),
    ],
)
def test_a_setting_that_does_not_fit_another_one_is_refused(environ: dict[str, str], name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(environ)
    assert [problem.split(":")[0] for problem in caught.value.problems] == [name]


def test_both_contradictions_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load({"BURST_SIZE": "1", "CLIENT_REQUESTS_PER_SECOND": "5", "CLIENT_BURST_SIZE": "4"})
    assert len(caught.value.problems) == 2


def test_variables_of_other_programs_are_ignored() -> None:
    assert load({"PATH": "/bin", "YTMP3": "x"}) == load({})


def test_no_repr_of_the_settings_shows_a_secret() -> None:
    secret = "hunter2"
    proxy = f"http://user:{secret}@proxy:3128"
    environ = {"REDIS_ADDR": f"redis://:{secret}@redis", "REDIS_PASSWORD": secret, "EGRESS_PROXY": proxy}
    config = load(environ | BUCKET | {"S3_SECRET_ACCESS_KEY": secret, "LINK_SECRET": secret * 5})
    for value in (config, config.redis, config.s3, config.tools):
        assert secret not in repr(value)
        assert secret not in f"{value}"


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "keys"
    secret.write_text("x")
    # The test may run as root, which may read everything, so the system's answer is replaced.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ConfigError):
        load({"API_KEYS_FILE": str(secret)})


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("WORKER_POOL", "WORKER_POOL_SIZE"),
        ("LOGLEVEL", "LOG_LEVEL"),
        ("API_KEYS", "API_KEYS_FILE"),
        ("TRUSTED_PROXY", "TRUSTED_PROXIES"),
        ("MAX_DURATION", "MAX_DURATION_SECONDS"),
        ("REDIS_ADDRESS", "REDIS_ADDR"),
        ("MAX_RETRIES", "MAX_JOB_RETRIES"),
        ("SANDBXO", "SANDBOX"),
    ],
)
def test_a_misspelt_setting_is_found(name: str, meant: str) -> None:
    assert misspelt({name: "5", "PORT": "80"}) == {name: meant}


def test_variables_of_other_programs_are_not_taken_for_misspelt_settings() -> None:
    others = (
        "HOSTNAME",
        "LOGNAME",
        "REDIS_PORT",
        "REDIS_HOST",
        "HTTPS_PROXY",
        "XDG_DATA_DIRS",
        "SSL_CERT_FILE",
        "LANG",
        "PAGER",
        "IS_SANDBOX",
        "CHROME_NO_SANDBOX",
        "SANDBOXED",
        "",
    )
    assert misspelt(dict.fromkeys(others, "5")) == {}
