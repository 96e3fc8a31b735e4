"""The environment becomes one frozen Config; every bad variable is named at once, with the form that was expected.

The Config goes no further than `app`: other rooms take plain values. `VARIABLES` is the one list of settings: the
README's table is checked against it by a test.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ytmp3.core.errors import Ytmp3Error
from ytmp3.variables import VARIABLES, Network


class ConfigError(Ytmp3Error):
    """One line for each bad variable. The value is not shown: it may be a secret."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings of one instance. Field names are the variables' names in lower case."""

    redis_addr: str
    redis_password: str
    redis_db: int
    worker_pool_size: int
    job_queue_capacity: int
    max_job_retries: int
    requests_per_second: float
    burst_size: int
    job_expiration_hours: float
    host: str
    port: int
    data_dir: Path
    log_format: str
    log_level: str
    ffmpeg_path: Path | None
    extract_concurrency: int
    encode_concurrency: int
    max_duration_seconds: int
    max_file_mb: int
    extract_seconds: float
    download_seconds: float
    encode_seconds: float
    idle_seconds: float
    lease_seconds: float
    drain_seconds: float
    trusted_proxies: tuple[Network, ...]
    accel_redirect_prefix: str
    cors_origins: frozenset[str]
    api_keys_file: Path | None
    client_requests_per_second: float
    client_burst_size: int
    client_max_jobs: int
    client_max_downloads: int
    egress_proxy: str
    egress_ca_file: Path | None
    cookies_file: Path | None

    def __repr__(self) -> str:
        """Never show a secret, not even in a traceback."""
        return "Config(...)"


def load(environ: Mapping[str, str]) -> Config:
    """Read the settings. Unset and empty variables take their default.

    Raises:
        ConfigError: with a line for every bad variable.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    for variable in VARIABLES:
        try:
            values[variable.name.lower()] = variable.parse(environ.get(variable.name, "").strip() or variable.default)
        except ValueError:
            problems.append(f"{variable.name}: expected {variable.form}")
    if not problems:
        problems = _contradictions(values)
    if problems:
        raise ConfigError(problems)
    return Config(**values)


def _contradictions(values: Mapping[str, Any]) -> list[str]:
    problems = []
    if values["burst_size"] < values["requests_per_second"]:
        problems.append("BURST_SIZE: expected at least REQUESTS_PER_SECOND")
    if values["client_burst_size"] and values["client_burst_size"] < values["client_requests_per_second"]:
        problems.append("CLIENT_BURST_SIZE: expected at least CLIENT_REQUESTS_PER_SECOND")
    return problems
