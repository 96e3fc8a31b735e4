"""Runs the commands of the client, such as `ytmp3 get`, and turns their results into output and exit codes.

Results go to standard output: the path of each track, or a line of JSON. Everything else goes to standard error.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Final

from ytmp3.client import playlists
from ytmp3.client.api import Api, Batch, Job, Refused, Unreachable
from ytmp3.client.arguments import COPIED_FORMATS, PROBE_SECONDS, key_of, server_of
from ytmp3.client.listen import (
    OutputClosed,
    PlayerFailed,
    SoundBroken,
    leave,
    listen,
    played_by,
    player_command,
    reason_of_break,
    standard_output,
)
from ytmp3.client.private import NoService, PrivateService, private_service
from ytmp3.client.probe import described
from ytmp3.client.progress import progress_for
from ytmp3.client.shell import completion, man_page
from ytmp3.client.stalls import GaveUp, Stalls
from ytmp3.client.updates import Updates
from ytmp3.client.work import Item, Work, title_of

LOCAL_SERVER: Final = "http://127.0.0.1:8080"
"""Where `make run` and `ytmp3 serve` listen by default."""


class Exit(IntEnum):
    """The exit codes of the client."""

    OK = 0
    SOME_FAILED = 1
    USAGE = 2
    NO_SERVICE = 3
    GAVE_UP = 4
    INTERRUPTED = 130


def run(options: argparse.Namespace) -> Exit:
    """Run the command that the options name; return the exit code."""
    if options.command in {"completion", "man"}:
        write = completion if options.command == "completion" else man_page
        print(write(options.commands.choices), end="")
        return Exit.OK
    try:
        return _run(options, server_of(options.server), key_of(options.key_file))
    except (argparse.ArgumentTypeError, OSError) as error:
        print(f"ytmp3: {error}", file=sys.stderr)
        return Exit.USAGE
    except (Unreachable, NoService) as error:
        print(f"ytmp3: {error}", file=sys.stderr)
        return Exit.NO_SERVICE
    except KeyboardInterrupt:
        return Exit.INTERRUPTED


def _run(options: argparse.Namespace, server: str | None, key: str | None) -> Exit:
    match options.command:
        case "get":
            return _get(options, server, key)
        case "listen":
            return _listen(options, server, key)
        case "status":
            return _on_jobs(options, _impatient(server, key), is_cancelling=False)
        case "probe":
            return _probe(options, Api(server=server or LOCAL_SERVER, key=key, patience_seconds=PROBE_SECONDS))
        case "jobs":
            return _list_jobs(options, _impatient(server, key))
        case _:
            return _on_jobs(options, _impatient(server, key), is_cancelling=True)


def _impatient(server: str | None, key: str | None) -> Api:
    """Return an `Api` that does not retry, so that the user sees the result at once."""
    return Api(server=server or LOCAL_SERVER, key=key, patience_seconds=0)


def _get(options: argparse.Namespace, server: str | None, key: str | None) -> Exit:
    links = [*options.links, *_links_in(options.input)]
    if not links:
        raise argparse.ArgumentTypeError("name at least one link, or a file with links (-i FILE)")
    if options.quality is not None and options.format in COPIED_FORMATS:
        raise argparse.ArgumentTypeError(f"--quality is only for mp3: the audio of {options.format} is copied")
    if (options.start or options.end) and options.format in COPIED_FORMATS:
        raise argparse.ArgumentTypeError(f"--start and --end are only for mp3: the audio of {options.format} is copied")
    if options.title is not None and len(links) > 1:
        raise argparse.ArgumentTypeError("--title is for one link only")
    if options.title is not None and (options.playlist or options.split_chapters):
        raise argparse.ArgumentTypeError("--title is for single videos: the tracks of a batch have their own titles")
    if options.split_chapters and options.format in COPIED_FORMATS:
        raise argparse.ArgumentTypeError(f"--split-chapters is only for mp3: the audio of {options.format} is copied")
    if options.split_chapters and (options.playlist or options.start or options.end):
        raise argparse.ArgumentTypeError("--split-chapters excludes --playlist, --start and --end")
    options.output.mkdir(parents=True, exist_ok=True)
    with _service(options, server, key) as (api, own):
        return _convert(options, api, links, own)


@contextmanager
def _service(
    options: argparse.Namespace, server: str | None, key: str | None
) -> Iterator[tuple[Api, PrivateService | None]]:
    """Yield a client of the service to use; with the service itself, if it was started for this command.

    Raises:
        argparse.ArgumentTypeError, Unreachable, NoService
    """
    if options.private and options.server is not None:
        raise argparse.ArgumentTypeError("--private and --server exclude each other")
    if options.private:
        server = None
    named = Api(server=server or LOCAL_SERVER, key=key)
    if not options.private and named.is_alive():
        yield named, None
        return
    if server is not None:
        raise Unreachable(f"no ytmp3 service answers at {server}")
    if options.no_wait:
        raise argparse.ArgumentTypeError("--no-wait needs a service that keeps running: name one with --server")
    if not options.json:
        print("starting a service for this command", file=sys.stderr)
    with private_service() as service:
        yield Api(server=service.url), service


def _tags(options: argparse.Namespace) -> dict[str, str | bool] | None:
    """Return the tags that the user has chosen; None: the usual ones."""
    names = ("title", "artist", "album")
    tags: dict[str, str | bool] = {name: text for name in names if (text := getattr(options, name)) is not None}
    if options.no_cover:
        tags["cover"] = False
    return tags or None


def _convert(options: argparse.Namespace, api: Api, links: list[str], service: PrivateService | None) -> Exit:
    progress = progress_for(is_quiet=options.json)

    def on_end(item: Item) -> None:
        if options.json:
            print(json.dumps(item.as_json(), ensure_ascii=False), flush=True)
        elif item.path is not None:
            progress.close()
            print(item.path, flush=True)
        else:
            progress.say(f"{title_of(item.job) or item.link}: {item.error}")

    chosen = {"format": options.format, "quality": options.quality, "start": options.start, "end": options.end}
    chosen |= {"language": options.language, "loudness": options.loudness}
    chosen["metadata"] = _tags(options)
    work = Work(
        api=api,
        folder=options.output,
        fields={name: value for name, value in chosen.items() if value is not None},
        progress=progress,
        on_end=on_end,
        updates=Updates(api=api),
        stalls=Stalls(api=api, limit_seconds=options.give_up_after),
        whole_playlists=options.playlist,
        split_chapters=options.split_chapters,
        track_numbers=options.track_numbers,
    )
    code = Exit.OK
    try:
        if options.no_wait:
            for link in links:
                _print_submitted(work.submit(link), is_json=options.json)
        else:
            _wait(work, links)
    except GaveUp as error:
        progress.close()
        _give_up(work, error, is_private=service is not None)
        code = Exit.GAVE_UP
    except OSError as error:
        progress.close()
        print(f"ytmp3: a track cannot be saved: {error}", file=sys.stderr)
        return Exit.SOME_FAILED
    finally:
        progress.close()
    if service is not None:
        service.is_done = True
    if code is Exit.OK and any(item.error is not None for item in work.items):
        code = Exit.SOME_FAILED
    return code


def _wait(work: Work, links: list[str]) -> None:
    """Convert all links, and download their tracks."""
    with _cancelling(work):
        work.run(links)
        for playlist in work.playlists:
            playlists.follow(work, playlist)


def _give_up(work: Work, error: GaveUp, *, is_private: bool) -> None:
    """End the open links of the output, and tell the user why. A shared service keeps their jobs."""
    seconds = f"{work.stalls.limit_seconds:g}"
    rest = "" if is_private else " The jobs stay at the service: repeat the command later, or cancel them."
    print(f"ytmp3: gave up, because nothing advanced for {seconds} s: {error}{rest}", file=sys.stderr)
    for item in [item for item in work.items if item.is_open]:
        work.fail(item, error.code, str(error))


@contextmanager
def _cancelling(work: Work) -> Iterator[None]:
    """Cancel the open jobs if the user presses Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        work.progress.close()
        print("interrupted: cancelling the jobs", file=sys.stderr)
        if left := playlists.cancel(work):
            print(f"{left} jobs could not be cancelled: they continue", file=sys.stderr)
        raise


def _print_submitted(item: Item, *, is_json: bool) -> None:
    if item.batch is not None:
        print(json.dumps(item.batch, ensure_ascii=False) if is_json else item.batch["batch_id"], flush=True)
    elif item.job is not None:
        print(json.dumps(item.job, ensure_ascii=False) if is_json else item.job["job_id"], flush=True)
    # Otherwise, on_end has printed the reason.


def _listen(options: argparse.Namespace, server: str | None, key: str | None) -> Exit:
    command = player_command(options.player, is_terminal=sys.stdout.isatty())
    names = ("quality", "language", "start", "end")
    fields = {name: text for name in names if (text := getattr(options, name)) is not None}
    with _service(options, server, key) as (api, own):
        try:
            code = _play(api, api.submit(options.link, fields), command, options.give_up_after)
        except Refused as error:
            print(f"ytmp3: {error}", file=sys.stderr)
            code = Exit.SOME_FAILED
        if own is not None:
            own.is_done = code is Exit.OK
    return code


def _play(api: Api, job: Job, command: Sequence[str] | None, limit_seconds: float) -> Exit:
    """Write the sound of a job to a player or to standard output. If the user leaves, a job that runs is cancelled."""
    stalls = Stalls(api=api, limit_seconds=limit_seconds)
    try:
        with standard_output() if command is None else played_by(command) as output:
            try:
                listen(api, job, output, stalls)
            except SoundBroken as error:
                raise SoundBroken(f"{error}: {reason_of_break(api, job)}") from None
    except OutputClosed:
        leave(api, job)
    except KeyboardInterrupt:
        leave(api, job)
        raise
    except PlayerFailed as error:
        leave(api, job)
        print(f"ytmp3: {error}", file=sys.stderr)
        return Exit.SOME_FAILED
    except GaveUp as error:
        print(f"ytmp3: gave up, because nothing advanced for {limit_seconds:g} s: {error}", file=sys.stderr)
        return Exit.GAVE_UP
    except (SoundBroken, OSError) as error:
        print(f"ytmp3: {error}", file=sys.stderr)
        return Exit.SOME_FAILED
    return Exit.OK


def _probe(options: argparse.Namespace, api: Api) -> Exit:
    code = Exit.OK
    for link in options.links:
        try:
            found = api.probe(link)
        except Refused as error:
            code = Exit.SOME_FAILED
            if options.json:
                failure = {"link": link, "error": {"code": error.code, "message": str(error)}}
                print(json.dumps(failure, ensure_ascii=False), flush=True)
            else:
                print(f"{link}: {error}", file=sys.stderr)
            continue
        print(json.dumps(found, ensure_ascii=False) if options.json else described(found), flush=True)
    return code


def _list_jobs(options: argparse.Namespace, api: Api) -> Exit:
    try:
        for job in api.jobs(options.number):
            print(json.dumps(job, ensure_ascii=False) if options.json else _summary(job), flush=True)
    except Refused as error:
        print(f"ytmp3: {error}", file=sys.stderr)
        return Exit.SOME_FAILED
    return Exit.OK


def _on_jobs(options: argparse.Namespace, api: Api, *, is_cancelling: bool) -> Exit:
    code = Exit.OK
    for job_id in options.jobs:
        try:
            found = _found(api, job_id, is_cancelling=is_cancelling)
        except Refused as error:
            print(f"{job_id}: {error}", file=sys.stderr)
            code = Exit.SOME_FAILED
            continue
        print(json.dumps(found, ensure_ascii=False) if options.json else _summary(found), flush=True)
    return code


def _found(api: Api, subject: str, *, is_cancelling: bool) -> Job | Batch:
    """Return, or cancel, the job or the batch of an id. All ids have the same form.

    Raises:
        Refused, Unreachable
    """
    try:
        return api.cancel(subject) if is_cancelling else api.status(subject)
    except Refused as error:
        if error.code != "job_unknown":
            raise
        try:
            return api.cancel_batch(subject) if is_cancelling else api.batch(subject)
        except Refused:
            raise error from None


def _summary(job: Job | Batch) -> str:
    """Return a job or a batch in one line."""
    if "counts" in job:
        counts = ", ".join(f"{number} {name}" for name, number in job["counts"].items() if number)
        return "  ".join([job["batch_id"], job["status"], counts, playlists.title_of(job) or ""]).rstrip()
    parts = [job["job_id"], job["status"]]
    if job["status"] in {"pending", "processing"}:
        parts.append(f"{100 * job['progress']:.0f} % {job['stage']}, about {job['eta_seconds']} s left")
    if job["error"] is not None:
        parts.append(f"({job['error']['code']}: {job['error']['message']})")
    return "  ".join([*parts, title_of(job) or job["url"]])


def _links_in(name: str | None) -> list[str]:
    """Return the links in a file, one per line, without empty lines and comments.

    Raises:
        OSError
    """
    if name is None:
        return []
    text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8-sig", errors="replace")
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]
