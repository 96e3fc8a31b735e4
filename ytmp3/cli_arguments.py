"""The arguments of the operator's larger commands: `webhook`, `doctor` and `extractor`. `cli` runs the commands."""

import argparse
from collections.abc import Mapping

from ytmp3.core import examination, release


def add_webhook(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `webhook` and its actions."""
    webhook = commands.add_parser("webhook", help="make the secret of a webhook endpoint, or send it a test message")
    actions = webhook.add_subparsers(dest="action", required=True)
    actions.add_parser(
        "secret", help="make a secret", description="Print a new secret, for WEBHOOKS_FILE and the receiver."
    )
    test = actions.add_parser(
        "test",
        help="send a signed test message",
        description="Send a signed message of type `test` to an endpoint of WEBHOOKS_FILE, as a real one is sent. "
        "Exit code 0: the endpoint has accepted it.",
    )
    test.add_argument("name", metavar="NAME", help="the name of the endpoint in WEBHOOKS_FILE")
    test.add_argument("url", metavar="URL", nargs="?", help="the address, if the line of the endpoint has `*` for it")


def add_doctor(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `doctor`."""
    doctor = commands.add_parser(
        "doctor",
        help="ask YouTube with each player client, and report what works",
        description="Ask YouTube for one video with each player client of YOUTUBE_CLIENTS, through each egress route, "
        "with the settings of the service and also while it runs. Prints a report without secrets.",
        epilog=_exit_codes(
            {code.value: text for code, text in examination.MEANINGS.items()}, "A setting or the URL is wrong."
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    doctor.add_argument("url", metavar="URL", nargs="?", help="a video of some minutes (default: Big Buck Bunny)")
    doctor.add_argument("--json", action="store_true", help="print the report as one JSON object")


def add_extractor(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `extractor` and its actions."""
    about = "Use another release of yt-dlp than the built-in one, also while the service runs and without a restart."
    extractor = commands.add_parser(
        "extractor",
        help="fetch, try, use another release of yt-dlp; go back",
        description=about,
        epilog=_exit_codes({code.value: text for code, text in release.MEANINGS.items()}),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = extractor.add_subparsers(dest="action", required=True)
    actions.add_parser("list", help="list the releases that are there", description="List and check the releases.")
    tried = "Fetch a release from YTDLP_INDEX, unless it is there already, and try it without a network."
    version = "a version such as 2026.10.26, `stable` or `nightly` for the newest"
    actions.add_parser("try", help="fetch a release and try it", description=tried).add_argument(
        "version", metavar="VERSION", help=version
    )
    actions.add_parser(
        "use", help="the same, and use it for new conversions", description=f"{tried} Then use it for new conversions."
    ).add_argument("version", metavar="VERSION", help=f"{version}, or `built-in`")
    actions.add_parser("back", help="use the release that was used before", description="Undo the last `use`.")


def _exit_codes(meanings: Mapping[int, str], of_two: str = "") -> str:
    """Return the exit codes of a command, as its help prints them."""
    all_meanings = {**meanings, 2: of_two} if of_two else meanings
    return "\n".join(["exit codes:", *(f"  {code}  {all_meanings[code]}" for code in sorted(all_meanings))])
