"""Reads the environment once, and builds the settings of each package from it.

`app` passes each package only its own settings, so no other module uses the names of variables. All invalid variables
are reported together, each with the expected form (ConfigError).

This module imports only the `settings` modules of the packages. They import only light modules, because `ytmp3 health`
and `ytmp3 key` load this module too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from ytmp3.converter.settings import ConversionLimits, ToolSettings
from ytmp3.core.errors import Ytmp3Error
from ytmp3.core.rollout import OFF
from ytmp3.core.states import CRASH_LIMIT
from ytmp3.engine.settings import EngineSettings
from ytmp3.http.settings import HttpSettings, RateLimitSettings
from ytmp3.jobstore.settings import Policy, RedisSettings, addresses_of
from ytmp3.storage.settings import S3Settings
from ytmp3.variables import VARIABLES
from ytmp3.webhooks.settings import PrivateHosts, WebhookSettings

LIKENESS: Final = 0.8
"""Smallest similarity (the ratio of `difflib`) at which a name is reported as a misspelt setting. With this value,
WORKER_POOL and LOGLEVEL are reported, but HOSTNAME and REDIS_PORT, which other programs set, are not."""


class ConfigError(Ytmp3Error):
    """The settings cannot be used. Each problem is one line that begins with the variable's name.

    An invalid value is not repeated, because it may be a secret. Valid paths and addresses that do not work are shown.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings of one instance, grouped by package."""

    host: str
    port: int
    """0: the system chooses a free port."""
    data_dir: Path
    disk_reserve_bytes: int
    """Free space below which new conversions are refused; 0: the service chooses it."""
    identities_file: Path | None
    """None: the other settings make the only identity."""
    api_keys_file: Path | None
    """None: requests need no key."""
    log_format: str
    log_level: str
    drain_seconds: float
    """How long running conversions may continue after SIGTERM."""
    http: HttpSettings
    engine: EngineSettings
    store: Policy
    redis: RedisSettings | None
    """None: the embedded store, a SQLite file in `data_dir`."""
    s3: S3Settings | None
    """The bucket for the tracks. None: a folder in `data_dir`."""
    link_secret: str
    """The secret that signs links and sessions; empty: a random one in `data_dir`."""
    tools: ToolSettings
    limits: ConversionLimits
    webhooks: WebhookSettings

    @property
    def store_file(self) -> Path:
        """The embedded store's file."""
        return self.data_dir / "ytmp3.sqlite3"

    def __repr__(self) -> str:
        """Show no setting, because some are secrets, and a repr may get into logs and tracebacks."""
        return "Config(...)"


def load(environ: Mapping[str, str]) -> Config:
    """Read the settings. Unset and empty variables have their defaults.

    Raises:
        ConfigError: it has a line for every invalid variable.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    for variable in VARIABLES:
        try:
            values[variable.name] = variable.parse(environ.get(variable.name, "").strip() or variable.default)
        except ValueError:
            problems.append(f"{variable.name}: expected {variable.form}")
    if not problems:
        problems = _contradictions(values, environ)
    if problems:
        raise ConfigError(problems)
    return _config(values)


def misspelt(environ: Mapping[str, str]) -> dict[str, str]:
    """Return each variable whose name resembles a setting, with the setting that was probably meant.

    People rarely mistype the first letter, and IS_SANDBOX is a variable of another program. Short settings of one word
    resemble many variables (PAGER and PAGE), so their length must be equal, too.
    """
    from difflib import get_close_matches  # noqa: PLC0415  only a start needs it

    known = [variable.name for variable in VARIABLES]
    found = {}
    for name in sorted(environ.keys() - set(known)):
        begun = [setting for setting in known if "_" in name and setting.startswith(f"{name}_")]
        likely = [
            setting for setting in known if setting[0] == name[:1] and ("_" in setting or len(setting) == len(name))
        ]
        if near := begun or get_close_matches(name, likely, n=1, cutoff=LIKENESS):
            found[name] = near[0]
    return found


def _contradictions(values: Mapping[str, Any], environ: Mapping[str, str]) -> list[str]:
    """Return the problems of values that do not fit together: a bucket must hold at least one second's requests."""
    problems = _contradictions_of_storage(values, environ) if values["STORAGE_URL"] else []
    if values["REDIS_DB"] and addresses_of(values["REDIS_ADDR"])[0]:
        problems.append("REDIS_DB: expected 0, the only database of a Redis Cluster")
    if values["REDIS_REPLICA_READS"] == "on" and not addresses_of(values["REDIS_ADDR"])[0]:
        problems.append("REDIS_REPLICA_READS: expected off without a Redis Cluster in REDIS_ADDR")
    if values["BURST_SIZE"] < values["REQUESTS_PER_SECOND"]:
        problems.append("BURST_SIZE: expected at least REQUESTS_PER_SECOND")
    if values["CLIENT_BURST_SIZE"] and values["CLIENT_BURST_SIZE"] < values["CLIENT_REQUESTS_PER_SECOND"]:
        problems.append("CLIENT_BURST_SIZE: expected at least CLIENT_REQUESTS_PER_SECOND")
    if values["YTDLP_UPDATE"] != OFF and not values["YTDLP_INDEX"]:
        problems.append("YTDLP_UPDATE: expected together with YTDLP_INDEX, the package index to fetch releases from")
    return problems


def _contradictions_of_storage(values: Mapping[str, Any], environ: Mapping[str, str]) -> list[str]:
    """Return the problems of values that do not fit together with tracks in a bucket.

    The library for S3 adds AWS_SESSION_TOKEN to any keys. A token of other keys would make the object store refuse all
    requests, and presigned URLs would show it to clients.
    """
    problems = []
    if values["ACCEL_REDIRECT_PREFIX"]:
        problems.append("ACCEL_REDIRECT_PREFIX: expected none with STORAGE_URL, because nginx has no tracks to send")
    if bool(values["S3_ACCESS_KEY_ID"]) != bool(values["S3_SECRET_ACCESS_KEY"]):
        problems.append("S3_SECRET_ACCESS_KEY: expected together with S3_ACCESS_KEY_ID")
    if values["S3_ACCESS_KEY_ID"] and "AWS_SESSION_TOKEN" in environ:
        problems.append(
            "S3_ACCESS_KEY_ID: expected none with AWS_SESSION_TOKEN, which belongs to AWS_ACCESS_KEY_ID: unset one of "
            "the two"
        )
    signs = values["API_KEYS_FILE"] and (values["PAGE"] == "on" or values["DOWNLOAD_LINK_SECONDS"])
    if signs and values["REDIS_ADDR"] and not values["LINK_SECRET"]:
        problems.append(
            "LINK_SECRET: expected with STORAGE_URL, REDIS_ADDR and API_KEYS_FILE, the same at all instances: "
            "they have no folder in common to keep one in"
        )
    return problems


def _config(values: Mapping[str, Any]) -> Config:
    """Build the settings. This is the only place that uses the values of the variables."""
    return Config(
        host=values["HOST"],
        port=values["PORT"],
        data_dir=values["DATA_DIR"],
        disk_reserve_bytes=values["DISK_RESERVE_MB"] * 1_000_000,
        identities_file=values["IDENTITIES_FILE"],
        api_keys_file=values["API_KEYS_FILE"],
        log_format=values["LOG_FORMAT"],
        log_level=values["LOG_LEVEL"],
        drain_seconds=values["DRAIN_SECONDS"],
        http=_http(values),
        engine=EngineSettings(
            workers=values["WORKER_POOL_SIZE"],
            queue_capacity=values["JOB_QUEUE_CAPACITY"],
            max_retries=values["MAX_JOB_RETRIES"],
            client_max_jobs=values["CLIENT_MAX_JOBS"],
            client_max_kept_jobs=values["CLIENT_MAX_KEPT_JOBS"],
            batch_max_items=values["BATCH_MAX_ITEMS"],
        ),
        store=Policy(
            lease_seconds=values["LEASE_SECONDS"],
            retention_seconds=values["JOB_EXPIRATION_HOURS"] * 3600,
            crash_limit=CRASH_LIMIT,
        ),
        redis=_redis(values),
        s3=_s3(values),
        link_secret=values["LINK_SECRET"],
        tools=ToolSettings(
            ffmpeg_path=values["FFMPEG_PATH"],
            egress_proxy=values["EGRESS_PROXY"] or None,
            egress_ca_file=values["EGRESS_CA_FILE"],
            egress_family=values["EGRESS_FAMILY"],
            egress_source_address=values["EGRESS_SOURCE_ADDRESS"] or None,
            cookies_file=values["COOKIES_FILE"],
            videos_per_hour=values["EGRESS_VIDEOS_PER_HOUR"],
            clients=values["YOUTUBE_CLIENTS"],
            pot_provider_url=values["POT_PROVIDER_URL"] or None,
            extractor_args=values["YTDLP_EXTRACTOR_ARGS"],
            releases_folder=values["DATA_DIR"] / "extractor",
            package_index=values["YTDLP_INDEX"] or None,
            update=values["YTDLP_UPDATE"],
            canary_videos=values["YTDLP_CANARY_URLS"],
            requires_sandbox=values["SANDBOX"] == "required",
            extract_concurrency=values["EXTRACT_CONCURRENCY"],
            encode_concurrency=values["ENCODE_CONCURRENCY"],
        ),
        limits=_limits(values),
        webhooks=_webhooks(values),
    )


def _limits(values: Mapping[str, Any]) -> ConversionLimits:
    return ConversionLimits(
        max_duration_seconds=values["MAX_DURATION_SECONDS"],
        max_file_bytes=values["MAX_FILE_MB"] * 1_000_000,
        extract_seconds=values["EXTRACT_SECONDS"],
        download_seconds=values["DOWNLOAD_SECONDS"],
        encode_seconds=values["ENCODE_SECONDS"],
        idle_seconds=values["IDLE_SECONDS"],
    )


def _http(values: Mapping[str, Any]) -> HttpSettings:
    return HttpSettings(
        rate_limits=RateLimitSettings(
            requests_per_second=values["REQUESTS_PER_SECOND"],
            burst_size=values["BURST_SIZE"],
            client_requests_per_second=values["CLIENT_REQUESTS_PER_SECOND"],
            client_burst_size=values["CLIENT_BURST_SIZE"],
        ),
        trusted_proxies=values["TRUSTED_PROXIES"],
        client_max_downloads=values["CLIENT_MAX_DOWNLOADS"],
        max_streams=values["MAX_STREAMS"],
        client_max_streams=values["CLIENT_MAX_STREAMS"],
        accel_redirect_prefix=values["ACCEL_REDIRECT_PREFIX"],
        cors_origins=values["CORS_ORIGINS"],
        access_log=values["ACCESS_LOG"] == "on",
        public_url=values["PUBLIC_URL"],
        public_path=urlsplit(values["PUBLIC_URL"]).path,
        download_link_seconds=values["DOWNLOAD_LINK_SECONDS"],
        page=values["PAGE"] == "on",
    )


def _webhooks(values: Mapping[str, Any]) -> WebhookSettings:
    names, networks = values["WEBHOOK_PRIVATE_HOSTS"]
    return WebhookSettings(file=values["WEBHOOKS_FILE"], private_hosts=PrivateHosts(names=names, networks=networks))


def _s3(values: Mapping[str, Any]) -> S3Settings | None:
    if values["STORAGE_URL"] is None:
        return None
    bucket, prefix = values["STORAGE_URL"]
    style = values["S3_PATH_STYLE"]
    return S3Settings(
        bucket=bucket,
        prefix=prefix,
        endpoint=values["S3_ENDPOINT"],
        public_endpoint=values["S3_PUBLIC_ENDPOINT"],
        region=values["S3_REGION"],
        access_key_id=values["S3_ACCESS_KEY_ID"],
        secret_access_key=values["S3_SECRET_ACCESS_KEY"],
        # The certificate of a wildcard host does not cover a bucket with a dot.
        path_style=style == "on" or (style == "auto" and ("." in bucket or bool(values["S3_ENDPOINT"]))),
        ca_file=values["S3_CA_FILE"],
        redirects=values["S3_DOWNLOAD"] == "redirect",
    )


def _redis(values: Mapping[str, Any]) -> RedisSettings | None:
    if not values["REDIS_ADDR"]:
        return None
    return RedisSettings(
        address=values["REDIS_ADDR"],
        password=values["REDIS_PASSWORD"],
        db=values["REDIS_DB"],
        prefix=values["REDIS_PREFIX"],
        reads_replicas=values["REDIS_REPLICA_READS"] == "on",
    )
