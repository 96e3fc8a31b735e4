"""The table of environment variables: the only place with their names, defaults, forms and meanings.

`config` reads the environment by this table. `make docs` writes docs/configuration.md and .env.example from it, and
`ytmp3 serve --help` prints it, so a meaning is one or two sentences for an operator, with Markdown's backticks.
"""

import os
from typing import Final

from ytmp3.redis_variables import REDIS_VARIABLES
from ytmp3.setting_files import file, program
from ytmp3.setting_forms import (
    Variable,
    any_text,
    folder,
    integer_within,
    networks,
    number_within,
    one_of,
    origins,
    prefix,
    private_hosts,
    public_url,
)
from ytmp3.storage_variables import STORAGE_VARIABLES
from ytmp3.youtube_variables import YOUTUBE_VARIABLES

_SECONDS_IN_A_DAY: Final = 86_400

VARIABLES: Final[tuple[Variable, ...]] = (
    *REDIS_VARIABLES,
    Variable(
        name="WORKER_POOL_SIZE",
        default="20",
        form="an integer from 1 to 1000",
        meaning="Conversions that run at once in this instance. Up to half as many more may run for other clients "
        "while one client uses more than its share.",
        parse=integer_within(1, 1000),
    ),
    Variable(
        name="JOB_QUEUE_CAPACITY",
        default="1000",
        form="an integer from 1 to 1000000",
        meaning="Conversions that may wait in this instance. Further ones are refused with `queue_full`.",
        parse=integer_within(1, 1_000_000),
    ),
    Variable(
        name="MAX_JOB_RETRIES",
        default="3",
        form="an integer from 0 to 100",
        meaning="How often a conversion is tried again after retryable errors of the video or of YouTube.",
        parse=integer_within(0, 100),
    ),
    Variable(
        name="REQUESTS_PER_SECOND",
        default="100",
        form="a number from 0.1 to 1000000",
        meaning="Requests per second that this instance admits from all clients together.",
        parse=number_within(0.1, 1e6),
    ),
    Variable(
        name="BURST_SIZE",
        default="200",
        form="an integer from 1 to 1000000",
        meaning="Requests admitted at once after a pause (the size of the token bucket).",
        parse=integer_within(1, 1_000_000),
    ),
    Variable(
        name="JOB_EXPIRATION_HOURS",
        default="24",
        form="a number from 0.01 to 8760",
        meaning="How long an ended job and its MP3 are kept, and how long a job may wait to be converted.",
        parse=number_within(0.01, 8760),
    ),
    Variable(
        name="HOST",
        default="127.0.0.1",
        form="an address to listen on",
        meaning="Address to listen on. The container image sets 0.0.0.0.",
        parse=any_text,
    ),
    Variable(
        name="PORT",
        default="8080",
        form="an integer from 0 to 65535",
        meaning="Port to listen on. 0: a free one, chosen by the system.",
        parse=integer_within(0, 65535),
    ),
    Variable(
        name="DATA_DIR",
        default="~/.local/share/ytmp3",
        form="a folder",
        meaning="MP3 files, work in progress and the embedded store. Instances with one Redis share this folder, "
        "or a bucket (`STORAGE_URL`).",
        parse=folder,
    ),
    Variable(
        name="DISK_RESERVE_MB",
        default="0",
        form="an integer from 0 to 100000000",
        meaning="Free MB of the disk below which new conversions are refused. 0: 5 % of it, from 1 to 16 GiB.",
        parse=integer_within(0, 100_000_000),
    ),
    Variable(
        name="LOG_FORMAT",
        default="auto",
        form="auto, json or text",
        meaning="`auto`: readable on a terminal, JSON lines elsewhere.",
        parse=one_of("auto", "json", "text"),
    ),
    Variable(
        name="LOG_LEVEL",
        default="info",
        form="debug, info, warning or error",
        meaning="Events of this level and above are logged.",
        parse=one_of("debug", "info", "warning", "error"),
    ),
    Variable(
        name="ACCESS_LOG",
        default="off",
        form="on or off",
        meaning="`on`: one log line for each request, as always with `LOG_LEVEL=debug`. nginx has a log of its own.",
        parse=one_of("on", "off"),
    ),
    Variable(
        name="FFMPEG_PATH",
        default="",
        form="an executable file",
        meaning="ffmpeg to use instead of the one that is installed with the package: 6.0 or later, with libmp3lame.",
        parse=program,
    ),
    Variable(
        name="SANDBOX",
        default="auto",
        form="auto or required",
        meaning="`required`: the service does not start if a part of the sandbox is missing (`/health` says which).",
        parse=one_of("auto", "required"),
    ),
    Variable(
        name="EXTRACT_CONCURRENCY",
        default="4",
        form="an integer from 1 to 1000",
        meaning="Extractions at once. Each runs yt-dlp, and may need 300 MB if the JavaScript solver is not available.",
        parse=integer_within(1, 1000),
    ),
    Variable(
        name="ENCODE_CONCURRENCY",
        default=str(os.cpu_count() or 1),
        form="an integer from 1 to 1000",
        meaning="Encoders (ffmpeg) that run at once. Up to as many more may run for other clients while one "
        "client uses more than its share. Default: the number of cores.",
        parse=integer_within(1, 1000),
    ),
    Variable(
        name="MAX_DURATION_SECONDS",
        default="10800",
        form="an integer from 1 to 864000",
        meaning="Longest video that is converted.",
        parse=integer_within(1, 10 * _SECONDS_IN_A_DAY),
    ),
    Variable(
        name="MAX_FILE_MB",
        default="500",
        form="an integer from 1 to 1000000",
        meaning="Largest download, and largest MP3, in MB (10^6 bytes).",
        parse=integer_within(1, 1_000_000),
    ),
    Variable(
        name="EXTRACT_SECONDS",
        default="60",
        form="a number from 1 to 86400",
        meaning="Longest time for one extraction: reading the video's page and player.",
        parse=number_within(1, _SECONDS_IN_A_DAY),
    ),
    Variable(
        name="DOWNLOAD_SECONDS",
        default="900",
        form="a number from 1 to 86400",
        meaning="Longest time for one download.",
        parse=number_within(1, _SECONDS_IN_A_DAY),
    ),
    Variable(
        name="ENCODE_SECONDS",
        default="600",
        form="a number from 1 to 86400",
        meaning="Longest time for encoding up to one hour of audio; longer audio gets proportionally more.",
        parse=number_within(1, _SECONDS_IN_A_DAY),
    ),
    Variable(
        name="IDLE_SECONDS",
        default="60",
        form="a number from 1 to 86400",
        meaning="Longest time without a new byte from YouTube, or without progress of the encoder.",
        parse=number_within(1, _SECONDS_IN_A_DAY),
    ),
    Variable(
        name="LEASE_SECONDS",
        default="30",
        form="a number from 1 to 3600",
        meaning="Another instance takes a conversion over when its lease has not been renewed for this long.",
        parse=number_within(1, 3600),
    ),
    Variable(
        name="DRAIN_SECONDS",
        default="20",
        form="a number from 0 to 3600",
        meaning="How long running conversions may go on after SIGTERM, before they are given back to the job store.",
        parse=number_within(0, 3600),
    ),
    Variable(
        name="TRUSTED_PROXIES",
        default="",
        form="addresses or networks, separated by commas",
        meaning="Proxies in front of the service. The header `X-Forwarded-For` is ignored from any other address.",
        parse=networks,
    ),
    Variable(
        name="ACCEL_REDIRECT_PREFIX",
        default="",
        form="a path that begins and ends with /",
        meaning="nginx's internal location for the tracks folder. If it is set, nginx sends the MP3 files.",
        parse=prefix,
    ),
    Variable(
        name="CORS_ORIGINS",
        default="",
        form="origins such as https://example.org, separated by commas",
        meaning="Web origins whose pages may call this service from a browser.",
        parse=origins,
    ),
    Variable(
        name="PUBLIC_URL",
        default="",
        form="an http:// or https:// URL without a query, such as https://example.org/ytmp3",
        meaning="Where clients reach the service. If it has a path, the URLs in responses begin with that path. "
        "The URLs in webhook messages are absolute only if it is set.",
        parse=public_url,
    ),
    Variable(
        name="PAGE",
        default="on",
        form="on or off",
        meaning="Whether the web page is served at `/`. The API does not depend on it.",
        parse=one_of("on", "off"),
    ),
    Variable(
        name="API_KEYS_FILE",
        default="",
        form="a readable file",
        meaning="API keys, one per line, made by `python -m ytmp3 key NAME`. Empty: requests need no key.",
        parse=file,
    ),
    Variable(
        name="WEBHOOKS_FILE",
        default="",
        form="a readable file",
        meaning="Webhook endpoints, one per line, for messages about ended jobs (docs/webhooks.md). Empty: none.",
        parse=file,
    ),
    Variable(
        name="WEBHOOK_PRIVATE_HOSTS",
        default="",
        form="host names, addresses or networks, separated by commas",
        meaning="Hosts with private addresses to which webhook messages may be sent, also with `http://`. "
        "All other webhooks need `https://` and a public address.",
        parse=private_hosts,
    ),
    Variable(
        name="DOWNLOAD_LINK_SECONDS",
        default="0",
        form="an integer from 0 to 31536000",
        meaning="Where keys are in use: how long `download_url` works without the key, such as in a player. 0: never.",
        parse=integer_within(0, 365 * _SECONDS_IN_A_DAY),
    ),
    Variable(
        name="CLIENT_REQUESTS_PER_SECOND",
        default="0",
        form="a number from 0 to 1000000",
        meaning="Requests per second of each client (API key or address). 0: only the limit for all clients applies.",
        parse=number_within(0, 1e6),
    ),
    Variable(
        name="CLIENT_BURST_SIZE",
        default="0",
        form="an integer from 0 to 1000000",
        meaning="Size of each client's token bucket. 0: twice the client's requests per second.",
        parse=integer_within(0, 1_000_000),
    ),
    Variable(
        name="CLIENT_MAX_JOBS",
        default="0",
        form="an integer from 0 to 1000000",
        meaning="Unfinished jobs of one client in this instance, including those that share a conversion or wait for a "
        "retry. 0: no limit.",
        parse=integer_within(0, 1_000_000),
    ),
    Variable(
        name="CLIENT_MAX_KEPT_JOBS",
        default="100000",
        form="an integer from 0 to 1000000000",
        meaning="Jobs that one client may create at this instance within `JOB_EXPIRATION_HOURS`, including jobs "
        "whose track exists already. Each takes about 350 bytes of the job store. 0: no limit for each client.",
        parse=integer_within(0, 1_000_000_000),
    ),
    Variable(
        name="BATCH_MAX_ITEMS",
        default="1000",
        form="an integer from 1 to 10000",
        meaning="Largest number of links in one batch, or of entries that are read from a playlist.",
        parse=integer_within(1, 10_000),
    ),
    Variable(
        name="CLIENT_MAX_DOWNLOADS",
        default="0",
        form="an integer from 0 to 1000000",
        meaning="Downloads that this instance itself sends to one client at once. 0: as many as it leaves free of 200.",
        parse=integer_within(0, 1_000_000),
    ),
    Variable(
        name="MAX_STREAMS",
        default="2000",
        form="an integer from 0 to 1000000",
        meaning="Event streams that this instance keeps open at once. Each takes about 20 kB of memory. 0: no limit.",
        parse=integer_within(0, 1_000_000),
    ),
    Variable(
        name="CLIENT_MAX_STREAMS",
        default="100",
        form="an integer from 0 to 1000000",
        meaning="Event streams of one client at once. 0: no limit for each client.",
        parse=integer_within(0, 1_000_000),
    ),
    *STORAGE_VARIABLES,
    *YOUTUBE_VARIABLES,
)
