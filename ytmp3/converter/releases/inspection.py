"""Tries a release without a network. Runs in a sandboxed child process, which loads the release.

First the names that this service uses beyond yt-dlp's public interface, because without them our own modules could not
be imported; then our extraction (`youtube.selftest`).
"""

import os
import sys

from ytmp3.converter.releases.messages import Inspect, Inspected, shown
from ytmp3.converter.youtube import places


def inspect(task: Inspect) -> Inspected:
    """Do the task."""
    os.environ["HOME"] = os.environ["TMPDIR"] = task.scratch
    os.chdir(task.scratch)
    sys.dont_write_bytecode = True
    sys.path.insert(0, task.packages)
    if moved := places.missing():
        return Inspected(problems=tuple(map(shown, moved)))
    try:
        from ytmp3.converter.youtube import selftest  # noqa: PLC0415  loads yt-dlp

        return Inspected(problems=tuple(map(shown, selftest.problems(task.preload, task.packages, task.scratch))))
    except Exception as error:  # a broken release may raise anything
        if places.is_of_machine(error):
            raise  # the trial has failed, and not the release
        return Inspected(problems=(shown(repr(error)),))
