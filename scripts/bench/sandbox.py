"""Measures what the sandbox costs a child process: `python -m scripts.bench.sandbox`.

Each pair of forks differs only in the sandbox. The figure is the CPU time of the forked process (user and system),
which ends where it would execute its program, so that the program's own time does not hide the difference.
"""

import argparse
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Final

import imageio_ffmpeg
from msgspec import structs

from ytmp3.converter.profiles import tool_profile, youtube_profile
from ytmp3.converter.sandbox.confinement import Confinement
from ytmp3.converter.sandbox.limits import Kernel
from ytmp3.converter.sandbox.protocol import Protections, ResourceLimits
from ytmp3.converter.settings import ToolSettings
from ytmp3.converter.tools import deno_path

PAIRS: Final = 300
SETTINGS: Final = ToolSettings(
    ffmpeg_path=None,
    egress_proxy=None,
    egress_ca_file=None,
    cookies_file=None,
    extract_concurrency=1,
    encode_concurrency=1,
)


def cpu_milliseconds(act: Callable[[], object]) -> float:
    """Run `act` in a fork, and return its CPU time."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            act()
            status = 0
        finally:
            os._exit(status)
    _, status, usage = os.wait4(pid, 0)
    assert status == 0
    return 1000 * (usage.ru_utime + usage.ru_stime)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    options = parser.parse_args()
    kernel = Kernel()
    kernel.forbid_new_privileges()
    confinement = Confinement(kernel)
    protections = confinement.find_out()
    confinement.prepare()
    scratch = str(Path.cwd())
    profiles = {
        "ffmpeg": tool_profile(imageio_ffmpeg.get_ffmpeg_exe()),
        "youtube": structs.replace(youtube_profile(SETTINGS, deno=deno_path()), writable=(scratch,)),
    }
    ways = {"landlock": protections, "mounts": Protections(has_mount_namespaces=True, has_seccomp=True)}
    print(f"{protections}; milliseconds of CPU time for each process, medians and means of {options.pairs} pairs")
    for way, offered in ways.items():
        confinement.protections = offered
        for name, profile in profiles.items():
            limits = ResourceLimits(file_bytes=2**30, cpu_seconds=60, network=name == "youtube", profile=profile)

            def confined(limits: ResourceLimits = limits, name: str = name) -> None:
                confinement.confine(limits, kernel.open_files if name == "ffmpeg" else -1)

            pairs = [(cpu_milliseconds(confined), cpu_milliseconds(lambda: None)) for _ in range(options.pairs)]
            with_it, without = zip(*pairs, strict=True)
            more = statistics.mean(with_it) - statistics.mean(without)
            print(
                f"{way:8} {name:8} {statistics.median(with_it):6.2f} / {statistics.median(without):6.2f}; {more:+.2f}"
            )


if __name__ == "__main__":
    main()
