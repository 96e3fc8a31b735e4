"""Runs the client without the service: `python -m ytmp3.client get LINK`."""

import argparse
import sys

from ytmp3 import __version__
from ytmp3.client.arguments import add_commands
from ytmp3.client.commands import run


def main() -> None:
    """Run the command that the arguments name, and exit with its code."""
    parser = argparse.ArgumentParser(prog="ytmp3", description="A YouTube link in, a verified MP3 out.")
    parser.add_argument("--version", action="version", version=f"ytmp3 {__version__}")
    add_commands(parser.add_subparsers(dest="command", required=True))
    sys.exit(run(parser.parse_args()))


if __name__ == "__main__":
    main()
