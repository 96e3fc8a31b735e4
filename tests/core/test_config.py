"""Settings: each variable's default, a good value, bad values; all mistakes at once, and no value shown."""

import dataclasses
import ipaddress
import os
import re
import sys
from pathlib import Path

import pytest

from ytmp3.config import Config, ConfigError, load
from ytmp3.variables import VARIABLES

ROOT = Path(__file__).parents[2]

DEFAULTS: dict[str, object] = {
    "REDIS_ADDR": "",
    "REDIS_PASSWORD": "",
    "REDIS_DB": 0,
    "WORKER_POOL_SIZE": 20,
    "JOB_QUEUE_CAPACITY": 1000,
    "MAX_JOB_RETRIES": 3,
    "REQUESTS_PER_SECOND": 100.0,
    "BURST_SIZE": 200,
    "JOB_EXPIRATION_HOURS": 24.0,
    "HOST": "127.0.0.1",
    "PORT": 8080,
    "DATA_DIR": Path("~/.local/share/ytmp3").expanduser(),
    "LOG_FORMAT": "auto",
    "LOG_LEVEL": "info",
    "FFMPEG_PATH": None,
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
    "API_KEYS_FILE": None,
    "CLIENT_REQUESTS_PER_SECOND": 0.0,
    "CLIENT_BURST_SIZE": 0,
    "CLIENT_MAX_JOBS": 0,
    "CLIENT_MAX_DOWNLOADS": 0,
    "EGRESS_PROXY": "",
    "EGRESS_CA_FILE": None,
    "COOKIES_FILE": None,
}

GOOD: list[tuple[str, str, object]] = [
    ("REDIS_ADDR", "redis:6379", "redis:6379"),
    ("REDIS_ADDR", "rediss://user:pw@redis.example:6380", "rediss://user:pw@redis.example:6380"),
    ("REDIS_ADDR", "unix:///run/redis.sock", "unix:///run/redis.sock"),
    ("REDIS_ADDR", "[::1]:6379", "[::1]:6379"),
    ("REDIS_PASSWORD", "p w#1", "p w#1"),
    ("REDIS_DB", "15", 15),
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
    ("LOG_FORMAT", "JSON", "json"),
    ("LOG_LEVEL", "Warning", "warning"),
    ("FFMPEG_PATH", sys.executable, Path(sys.executable)),
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
    ("API_KEYS_FILE", __file__, Path(__file__)),
    ("CLIENT_REQUESTS_PER_SECOND", "2.5", 2.5),
    ("CLIENT_BURST_SIZE", "10", 10),
    ("CLIENT_MAX_JOBS", "100", 100),
    ("CLIENT_MAX_DOWNLOADS", "8", 8),
    ("EGRESS_PROXY", "socks5://proxy:1080", "socks5://proxy:1080"),
    ("EGRESS_PROXY", "http://u:p@proxy:3128", "http://u:p@proxy:3128"),
    ("EGRESS_CA_FILE", __file__, Path(__file__)),
    ("COOKIES_FILE", __file__, Path(__file__)),
]

BAD: dict[str, list[str]] = {
    "REDIS_ADDR": ["http://redis", "redis:port", "redis:70000", "redis://", ":6379", "redis://[::1"],
    "REDIS_DB": ["-1", "1024", "x", "1.0", "²", "٣"],
    "WORKER_POOL_SIZE": ["0", "1001", "-5", "twenty", "1e3", "0x10", "9" * 5000],
    "JOB_QUEUE_CAPACITY": ["0", "1000001", "many"],
    "MAX_JOB_RETRIES": ["-1", "101", "3.0"],
    "REQUESTS_PER_SECOND": ["0", "nan", "inf", "-1", "1e7", "fast"],
    "BURST_SIZE": ["0", "1.5", "big"],
    "JOB_EXPIRATION_HOURS": ["0", "8761", "nan", "1d"],
    "PORT": ["65536", "-1", "http", "80 80"],
    "LOG_FORMAT": ["xml", "json,text"],
    "LOG_LEVEL": ["loud", "10"],
    "FFMPEG_PATH": ["/nonexistent/ffmpeg", __file__, "/"],
    "EXTRACT_CONCURRENCY": ["0", "1001", "x"],
    "ENCODE_CONCURRENCY": ["0", "1001", "x"],
    "MAX_DURATION_SECONDS": ["0", "864001", "3h"],
    "MAX_FILE_MB": ["0", "1000001", "5e2"],
    "EXTRACT_SECONDS": ["0", "86401", "1m"],
    "DOWNLOAD_SECONDS": ["0.9", "nan", "-1"],
    "ENCODE_SECONDS": ["0", "inf", "x"],
    "IDLE_SECONDS": ["0", "86401", "60s"],
    "LEASE_SECONDS": ["0.5", "3601", "nan"],
    "DRAIN_SECONDS": ["-1", "3601", "soon"],
    "TRUSTED_PROXIES": ["10.0.0.0/33", "nginx", "10.0.0.0/8;::1", "10.0.0.0.0"],
    "ACCEL_REDIRECT_PREFIX": ["protected/", "/protected", "protected"],
    "CORS_ORIGINS": [
        "*",
        "example.org",
        "https://example.org/",
        "https://u@example.org",
        "ftp://a",
        "null",
        "https://",
    ],
    "API_KEYS_FILE": ["/nonexistent/keys", "/"],
    "CLIENT_REQUESTS_PER_SECOND": ["-1", "nan", "x"],
    "CLIENT_BURST_SIZE": ["-1", "1.5", "x"],
    "CLIENT_MAX_JOBS": ["-1", "x"],
    "CLIENT_MAX_DOWNLOADS": ["-1", "x", "1000001"],
    "EGRESS_PROXY": ["proxy:3128", "ftp://proxy", "http://", "http://proxy:port", "http://proxy:70000"],
    "EGRESS_CA_FILE": ["/nonexistent/ca.pem", "/"],
    "COOKIES_FILE": ["/nonexistent/cookies", "/"],
}

ANY_TEXT_WILL_DO = {"REDIS_PASSWORD", "HOST", "DATA_DIR"}


def test_every_variable_is_tested_here() -> None:
    names = {variable.name for variable in VARIABLES}
    assert names == set(DEFAULTS) == {name for name, _, _ in GOOD} == set(BAD) | ANY_TEXT_WILL_DO
    assert not set(BAD) & ANY_TEXT_WILL_DO
    assert [field.name for field in dataclasses.fields(Config)] == [variable.name.lower() for variable in VARIABLES]


def test_an_empty_environment_gives_the_defaults() -> None:
    config = load({})
    assert {name: getattr(config, name.lower()) for name in DEFAULTS} == DEFAULTS


@pytest.mark.parametrize("blank", ["", "   "])
def test_an_empty_variable_is_an_absent_one(blank: str) -> None:
    assert load(dict.fromkeys(DEFAULTS, blank)) == load({})


@pytest.mark.parametrize(("name", "text", "value"), GOOD)
def test_a_good_value_is_read(name: str, text: str, value: object) -> None:
    assert getattr(load({name: text}), name.lower()) == value


@pytest.mark.parametrize(
    ("name", "text"), [(name, text) for name, texts in BAD.items() for text in texts], ids=lambda text: text[:20]
)
def test_a_bad_value_is_refused_with_the_form_and_without_the_value(name: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({name: text})
    form = next(variable.form for variable in VARIABLES if variable.name == name)
    assert caught.value.problems == [f"{name}: expected {form}"]
    assert "\n" not in caught.value.problems[0]


def test_all_mistakes_are_named_at_once_and_no_secret_with_them() -> None:
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
    ],
)
def test_a_bucket_smaller_than_its_rate_is_a_contradiction(environ: dict[str, str], name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(environ)
    assert [problem.split(":")[0] for problem in caught.value.problems] == [name]


def test_both_contradictions_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load({"BURST_SIZE": "1", "CLIENT_REQUESTS_PER_SECOND": "5", "CLIENT_BURST_SIZE": "4"})
    assert len(caught.value.problems) == 2


def test_variables_of_other_programs_are_passed_over() -> None:
    assert load({"PATH": "/bin", "YTMP3": "x"}) == load({})


def test_a_config_shows_nothing_in_a_traceback() -> None:
    config = load({"REDIS_PASSWORD": "hunter2"})
    assert "hunter2" not in repr(config)
    assert "hunter2" not in str(config)
    assert "hunter2" not in f"{config}"


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "keys"
    secret.write_text("x")
    # Root reads everything: the answer of the system is what counts.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ConfigError):
        load({"API_KEYS_FILE": str(secret)})


def test_the_readme_lists_every_variable_as_it_is() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = re.search(r"<!-- configuration -->(.*?)<!-- /configuration -->", text, re.DOTALL)
    assert table is not None
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[1].strip().splitlines()[2:]]
    expected = []
    for variable in VARIABLES:
        default = f"`{variable.default}`" if variable.default else ""
        if variable.name == "ENCODE_CONCURRENCY":
            default = "cores"
        expected.append([f"`{variable.name}`", default, variable.form, variable.meaning])
    assert rows == expected
