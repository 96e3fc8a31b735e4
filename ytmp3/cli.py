"""The command line: `serve`, `health` and `key`. The only module that prints or exits.

Each command imports the packages that only it needs. Importing the whole service takes most of a second, which `health`
(run every few seconds in a container) and `key` (run by a person) avoid.
"""

import argparse
import os
import secrets
import sys
import textwrap
from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NoReturn

from ytmp3 import __version__
from ytmp3.config import Config, ConfigError, load
from ytmp3.core.errors import Ytmp3Error
from ytmp3.http.keys import KEY_BYTES, KEY_NAME, key_line, new_secret
from ytmp3.variables import VARIABLES

HEALTH_SECONDS: Final = 3.0
"""Longest wait of `ytmp3 health` for a response. Shorter than the timeout of the container's health check (5 s)."""
_REACHABLE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  compared with HOST, never bound
"""`0.0.0.0` and `::` mean "listen on all interfaces". `health` connects to the loopback address instead."""


class Exit(IntEnum):
    """The exit codes."""

    OK = 0
    FAILED = 1
    BAD_CONFIGURATION = 2


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command that the arguments name, and exit with its code."""
    options = _parser().parse_args(arguments)
    match options.command:
        case "serve":
            sys.exit(_serve())
        case "health":
            sys.exit(_health("/health/live" if options.live else "/health"))
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
    health = commands.add_parser(
        "health",
        help="exit with 0 if the instance on HOST and PORT is ready",
        description="Ask the instance on HOST and PORT whether it is ready, and print its checks. Exit code 0: ready.",
    )
    health.add_argument("--live", action="store_true", help="ask only whether the process responds")
    key = commands.add_parser(
        "key",
        help="make an API key",
        description="Make an API key. Prints the secret to stderr and the line for API_KEYS_FILE to stdout.",
    )
    key.add_argument("name", help="1 to 64 letters, digits, dots, dashes and underscores; shown in logs")
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


def _serve() -> Exit:
    config = _config()
    if config is None:
        return Exit.BAD_CONFIGURATION
    import asyncio  # noqa: PLC0415

    from ytmp3 import logs  # noqa: PLC0415
    from ytmp3.serve import serve  # noqa: PLC0415

    logs.set_up(style=config.log_format, level=config.log_level)
    try:
        asyncio.run(serve(config, announce=lambda address: print(f"ytmp3 {__version__} on {address}", flush=True)))
    except ConfigError as error:
        return _refused(error)
    except (Ytmp3Error, OSError) as error:
        print(f"ytmp3: {error}", file=sys.stderr)
        return Exit.FAILED
    return Exit.OK


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
