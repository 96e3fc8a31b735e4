"""The command line: `serve`, `health`, `doctor`, `extractor`, `key`, `webhook`, `backup`, `restore`, and the client's.

Only this module and the client print, and exit.

Each command imports the packages that only it needs. Importing the whole service takes most of a second, which `health`
(run every few seconds in a container) and `key` (run by a person) avoid.
"""

import argparse
import atexit
import logging
import os
import platform
import secrets
import shutil
import signal
import sys
import textwrap
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import Final, NoReturn

from ytmp3 import __version__
from ytmp3.cli_arguments import add_doctor, add_extractor, add_webhook
from ytmp3.client.arguments import COMMANDS, add_commands
from ytmp3.config import Config, ConfigError, load, misspelt
from ytmp3.core.errors import RequestError, Ytmp3Error
from ytmp3.core.link import parse_video_id
from ytmp3.http.keys import KEY_BYTES, KEY_NAME, key_line, new_secret
from ytmp3.variables import VARIABLES

log = logging.getLogger(__name__)

HEALTH_SECONDS: Final = 3.0
"""Longest wait of `ytmp3 health` for a response. Shorter than the timeout of the container's health check (5 s)."""
_REACHABLE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  compared with HOST, never bound
"""`0.0.0.0` and `::` mean "listen on all interfaces". `health` connects to the loopback address instead."""


_STRAY_SIGNALS: Final = (
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGVTALRM,
    signal.SIGXCPU,
    signal.SIGQUIT,
)
"""Signals without a meaning here, which would end the process without a drain. It ignores them."""
_STDERR: Final = 2
"""The number of the last standard stream."""


class Exit(IntEnum):
    """The exit codes."""

    OK = 0
    FAILED = 1
    BAD_CONFIGURATION = 2
    INTERRUPTED = 130
    """Ctrl-C, as a shell reports it."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command that the arguments name, and exit with its code."""
    options = _parser().parse_args(arguments)
    if options.command in COMMANDS:
        from ytmp3.client.commands import run  # noqa: PLC0415

        sys.exit(run(options))
    match options.command:
        case "serve":
            sys.exit(_serve())
        case "health":
            sys.exit(_health("/health/live" if options.live else "/health"))
        case "doctor":
            sys.exit(_doctor(options.url, as_json=options.json))
        case "extractor":
            sys.exit(_extractor(options.action, getattr(options, "version", "")))
        case "backup":
            sys.exit(_backup(options.file))
        case "restore":
            sys.exit(_restore(options.file))
        case "webhook":
            sys.exit(_webhook_secret() if options.action == "secret" else _webhook_test(options.name, options.url))
        case _:
            sys.exit(_key(options.name))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ytmp3", description="A YouTube link in, a verified MP3 out.")
    parser.add_argument("--version", action="version", version=f"ytmp3 {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "serve",
        help="serve until SIGTERM; settings come from the environment",
        description="Serve until SIGTERM or Ctrl-C; a second signal stops at once. SIGHUP reloads API_KEYS_FILE.",
        epilog=_settings(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_commands(commands)
    health = commands.add_parser(
        "health",
        help="exit with 0 if the instance on HOST and PORT is ready",
        description="Ask the instance on HOST and PORT whether it is ready, and print its checks. Exit code 0: ready.",
    )
    health.add_argument("--live", action="store_true", help="ask only whether the process responds")
    add_doctor(commands)
    add_extractor(commands)
    key = commands.add_parser(
        "key",
        help="make an API key",
        description="Make an API key. Prints the secret to stderr and the line for API_KEYS_FILE to stdout.",
    )
    key.add_argument("name", help="1 to 64 letters, digits, dots, dashes and underscores; shown in logs")
    backup = commands.add_parser(
        "backup",
        help="copy the embedded job store, also while the service runs",
        description="Copy the SQLite job store in DATA_DIR to FILE, also while the service runs. "
        "An existing FILE is not overwritten.",
    )
    backup.add_argument("file", metavar="FILE", type=Path)
    restore = commands.add_parser(
        "restore",
        help="put a backup in place of the embedded job store",
        description="Put a copy of the backup FILE in place of the SQLite job store in DATA_DIR. The service must be "
        "stopped. FILE is checked first, and the store that it replaces is kept.",
    )
    restore.add_argument("file", metavar="FILE", type=Path)
    add_webhook(commands)
    return parser


def _settings() -> str:
    """The table of settings, as `serve --help` prints it."""
    lines = ["environment variables:"]
    for variable in VARIABLES:
        default = f" [{variable.default}]" if variable.default else ""
        meaning = variable.meaning.replace("`", "")
        lines += [
            f"  {variable.name}{default}",
            *textwrap.wrap(meaning, 96, initial_indent=" " * 8, subsequent_indent=" " * 8),
        ]
    return "\n".join(lines)


def _is_on_linux(what: str) -> bool:
    if platform.system() == "Linux":
        return True
    print(f"ytmp3: {what} needs Linux. On another system, use the container: see docs/install.md", file=sys.stderr)
    return False


def _serve() -> Exit:
    if not _is_on_linux("serving"):
        return Exit.FAILED
    # Until the service listens to it, SIGHUP would end the process. It asks for reading the keys again, and they are
    # read later than this.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in _STRAY_SIGNALS:
        # Not SIG_IGN, which the child processes would inherit: SIGXCPU enforces their limit of CPU time.
        signal.signal(number, lambda *_: None)
    _open_standard_streams()
    config = _config()
    if config is None:
        return Exit.BAD_CONFIGURATION
    import asyncio  # noqa: PLC0415

    from ytmp3 import logs  # noqa: PLC0415
    from ytmp3.log_stream import LogStream  # noqa: PLC0415
    from ytmp3.serve import serve  # noqa: PLC0415

    stream = LogStream(sys.stderr)
    atexit.register(stream.drain)
    as_text = logs.set_up(style=config.log_format, level=config.log_level, stream=stream)
    for name, meant in misspelt(os.environ).items():
        log.warning("unknown setting ignored", extra={"variable": name, "did_you_mean": meant})
    try:
        asyncio.run(serve(config, announce=lambda url: print(_announcement(config, url, as_text=as_text), flush=True)))
    except ConfigError as error:
        return _refused(error)
    except (Ytmp3Error, OSError) as error:
        return _failed(error)
    return Exit.OK


def _open_standard_streams() -> None:
    """Open /dev/null for each standard stream that was closed at the start.

    Otherwise the next socket or file would get its number, and what is meant for the stream would be written there.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(descriptor, True)  # noqa: FBT003  a parameter without a name
    os.close(descriptor)
    # Python has set such a stream to None.
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


def _doctor(url: str | None, *, as_json: bool) -> int:
    if not _is_on_linux("doctor"):
        return Exit.FAILED
    config = _config()
    if config is None:
        return Exit.BAD_CONFIGURATION
    import asyncio  # noqa: PLC0415
    import json  # noqa: PLC0415

    from ytmp3.app import budgets_of, read_identities  # noqa: PLC0415
    from ytmp3.converter import doctor_report  # noqa: PLC0415
    from ytmp3.converter.doctor import Doctor, Findings, ways_out  # noqa: PLC0415
    from ytmp3.doctor_budget import counting  # noqa: PLC0415
    from ytmp3.greeting import EXAMPLE_LINK  # noqa: PLC0415

    try:
        video_id = parse_video_id(url or EXAMPLE_LINK)
        identities = read_identities(config)
    except (RequestError, ConfigError) as error:
        print(f"ytmp3: {error}", file=sys.stderr)
        return Exit.BAD_CONFIGURATION

    async def examined() -> Findings:
        async with counting(config.redis, config.store, budgets_of(identities)) as budget:
            doctor = Doctor(
                config.limits, lambda step: print(f"ytmp3 doctor: {step}", file=sys.stderr), counting=budget
            )
            return await doctor.examine(ways_out(config.tools, identities), video_id)

    try:
        findings = asyncio.run(examined())
    except OSError as error:
        return _failed(error)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    if as_json:
        print(json.dumps(doctor_report.as_json(findings)))
    else:
        print(doctor_report.as_text(findings), end="")
    return doctor_report.outcome_of(findings)


def _extractor(action: str, version: str) -> int:
    if not _is_on_linux("extractor"):
        return Exit.FAILED
    config = _config()
    if config is None:
        return Exit.BAD_CONFIGURATION
    import asyncio  # noqa: PLC0415

    from ytmp3.converter.releases.commands import ExtractorError, commands_of  # noqa: PLC0415

    commands = commands_of(config.tools, os.environ, lambda line: print(line, flush=True))
    try:
        match action:
            case "list":
                commands.list()
            case "try":
                asyncio.run(commands.try_(version))
            case "use":
                asyncio.run(commands.use(version))
            case _:
                commands.back()
    except ExtractorError as error:
        print(f"ytmp3: {error}", file=sys.stderr)
        return error.ended
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    return Exit.OK


def _announcement(config: Config, url: str, *, as_text: bool) -> str:
    """Return what stdout shows when the service listens: lines for a person, or one event like those of the log."""
    from ytmp3.greeting import greeting  # noqa: PLC0415
    from ytmp3.logs import JsonFormatter  # noqa: PLC0415

    if as_text:
        return greeting(config, url, free_bytes=shutil.disk_usage(config.data_dir).free)
    fields = {"url": url, "version": __version__}
    return JsonFormatter().format(log.makeRecord(log.name, logging.INFO, "", 0, "listening", (), None, extra=fields))


def _config() -> Config | None:
    try:
        return load(os.environ)
    except ConfigError as error:
        _refused(error)
        return None


def _refused(error: ConfigError) -> Exit:
    for problem in error.problems:
        print(f"ytmp3: {problem}", file=sys.stderr)
    return Exit.BAD_CONFIGURATION


def _health(path: str) -> Exit:
    config = _config()
    if config is None:
        return Exit.BAD_CONFIGURATION
    import urllib.error  # noqa: PLC0415
    import urllib.request  # noqa: PLC0415

    host = _REACHABLE.get(config.host, config.host)
    host = f"[{host}]" if ":" in host else host
    try:
        with urllib.request.urlopen(f"http://{host}:{config.port}{path}", timeout=HEALTH_SECONDS) as response:
            print(response.read().decode())
    except urllib.error.HTTPError as error:
        print(error.read().decode(), file=sys.stderr)
        return Exit.FAILED
    except OSError as error:
        print(f"ytmp3: no response: {error}", file=sys.stderr)
        return Exit.FAILED
    return Exit.OK


def _key(name: str) -> Exit:
    if KEY_NAME.fullmatch(name) is None:
        print("ytmp3: a key's name is 1 to 64 letters, digits, dots, dashes and underscores", file=sys.stderr)
        return Exit.BAD_CONFIGURATION
    secret = new_secret(secrets.token_bytes(KEY_BYTES))
    print(f"The secret, shown only now: {secret}", file=sys.stderr)
    print(key_line(name, secret))
    return Exit.OK


def _webhook_secret() -> Exit:
    from ytmp3.webhooks.signature import NEW_SECRET_BYTES, new_secret  # noqa: PLC0415

    print(new_secret(secrets.token_bytes(NEW_SECRET_BYTES)))
    return Exit.OK


def _webhook_test(name: str, url: str | None) -> Exit:
    config = _config()
    if config is None:
        return Exit.BAD_CONFIGURATION
    import asyncio  # noqa: PLC0415

    from ytmp3.webhooks.trial import TrialRefused, try_endpoint  # noqa: PLC0415

    try:
        is_accepted, text = asyncio.run(try_endpoint(config.webhooks, name, url))
    except TrialRefused as error:
        print(f"ytmp3: {error}", file=sys.stderr)
        return Exit.BAD_CONFIGURATION
    print(text, file=sys.stdout if is_accepted else sys.stderr)
    return Exit.OK if is_accepted else Exit.FAILED


def _backup(target: Path) -> Exit:
    config = _embedded()
    if config is None:
        return Exit.BAD_CONFIGURATION
    from ytmp3.jobstore.sqlite.backup import back_up  # noqa: PLC0415

    try:
        size_bytes = back_up(config.store_file, target)
    except (Ytmp3Error, OSError) as error:
        return _failed(error)
    print(f"Backup of {config.store_file} in {target}: {size_bytes} bytes, checked.")
    return Exit.OK


def _restore(source: Path) -> Exit:
    config = _embedded()
    if config is None:
        return Exit.BAD_CONFIGURATION
    from ytmp3.jobstore.sqlite.backup import restore  # noqa: PLC0415

    try:
        replaced = restore(source, config.store_file)
    except (Ytmp3Error, OSError) as error:
        return _failed(error)
    print(f"{config.store_file} is restored from {source}.")
    if replaced is not None:
        print(f"The store that it replaced is kept: {replaced}")
    return Exit.OK


def _embedded() -> Config | None:
    """Return the settings if they name the embedded store."""
    config = _config()
    if config is not None and config.redis is not None:
        print("ytmp3: REDIS_ADDR: the jobs are in Redis, which has a backup of its own", file=sys.stderr)
        return None
    return config


def _failed(error: Exception) -> Exit:
    print(f"ytmp3: {error}", file=sys.stderr)
    return Exit.FAILED
