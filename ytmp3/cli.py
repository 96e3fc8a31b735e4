"""The command line: `serve`, `health`, `key`. The only room that prints or exits."""

import argparse
import asyncio
import os
import secrets
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from enum import IntEnum
from typing import NoReturn

from ytmp3 import __version__, logs
from ytmp3.config import Config, ConfigError, load
from ytmp3.core.errors import Ytmp3Error
from ytmp3.http.keys import KEY_BYTES, KEY_NAME, key_line, new_secret

HEALTH_SECONDS = 3.0


class Exit(IntEnum):
    """What the process tells whoever started it."""

    OK = 0
    FAILED = 1
    BAD_CONFIGURATION = 2


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command that the arguments name, and exit with its code."""
    parser = argparse.ArgumentParser(prog="ytmp3", description="A YouTube link in, a verified MP3 out.")
    parser.add_argument("--version", action="version", version=f"ytmp3 {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="serve until SIGTERM; settings come from the environment (see README)")
    health = commands.add_parser("health", help="exit 0 if the instance on HOST:PORT is ready (--live: alive)")
    health.add_argument("--live", action="store_true")
    key = commands.add_parser("key", help="make an API key: the secret to stderr, the API_KEYS_FILE line to stdout")
    key.add_argument("name")
    options = parser.parse_args(arguments)
    match options.command:
        case "serve":
            sys.exit(_serve())
        case "health":
            sys.exit(_health("/health/live" if options.live else "/health"))
        case _:
            sys.exit(_key(options.name))


def _serve() -> Exit:
    config = _config()
    if config is None:
        return Exit.BAD_CONFIGURATION
    logs.set_up(style=config.log_format, level=config.log_level)
    # Imported here: `key` and `health` should not wait for it.
    from ytmp3.serve import serve  # noqa: PLC0415

    try:
        asyncio.run(serve(config, announce=lambda address: print(f"ytmp3 {__version__} on {address}", flush=True)))
    except (Ytmp3Error, OSError) as error:
        print(f"ytmp3: {error}", file=sys.stderr)
        return Exit.FAILED
    return Exit.OK


def _config() -> Config | None:
    try:
        return load(os.environ)
    except ConfigError as error:
        for problem in error.problems:
            print(f"ytmp3: {problem}", file=sys.stderr)
        return None


def _health(path: str) -> Exit:
    config = _config()
    if config is None:
        return Exit.BAD_CONFIGURATION
    # The address that means "all interfaces" is one to listen on, not one to connect to.
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(config.host, config.host)  # noqa: S104  compared, never bound
    try:
        with urllib.request.urlopen(f"http://{host}:{config.port}{path}", timeout=HEALTH_SECONDS) as response:
            print(response.read().decode())
    except urllib.error.HTTPError as error:
        print(error.read().decode(), file=sys.stderr)
        return Exit.FAILED
    except OSError as error:
        print(f"ytmp3: no answer: {error}", file=sys.stderr)
        return Exit.FAILED
    return Exit.OK


def _key(name: str) -> Exit:
    if KEY_NAME.fullmatch(name) is None:
        print("ytmp3: a key's name is 1 to 64 letters, digits, dots, dashes and underscores", file=sys.stderr)
        return Exit.BAD_CONFIGURATION
    secret = new_secret(secrets.token_bytes(KEY_BYTES))
    print(f"The key, shown this once: {secret}", file=sys.stderr)
    print(key_line(name, secret))
    return Exit.OK
