"""The sandbox profile of each program: the files, programs and ports that it needs (`sandbox.protocol.Profile`).

* ffmpeg, and deno of the solver: execute only themselves, and read shared libraries. Input and output are descriptors.
* The youtube child: executes deno; reads Python's modules, shared libraries and the files of name resolution; writes
  the conversion's scratch folder; connects to YouTube's port, or to the proxy's.
* The youtube child while it decodes a picture: nothing (`sandbox.confinement.NO_ACCESS`). It writes to a descriptor.

The profiles are made once, at the start; only the scratch folder differs between conversions.
"""

import importlib.util
import sys
import sysconfig
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

import ytmp3
from ytmp3.converter.sandbox.protocol import Profile
from ytmp3.converter.settings import Egress, ToolSettings

LIBRARIES: Final = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/nix/store"),
    *("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime", "/usr/share/zoneinfo"),
    *("/dev/urandom", "/dev/random", "/dev/zero"),
)
"""Files that programs read when they start: shared libraries, their index, time zones, random numbers. Paths that do
not exist on a system are ignored."""

NAME_RESOLUTION: Final = (
    *("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf"),
    *("/etc/services", "/etc/protocols", "/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/usr/share/ca-certificates"),
)
"""Files that libc reads to resolve host names, and the certificate authorities."""

INTERPRETERS: Final = (
    *("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"),
    *("/lib/ld-musl-x86_64.so.1", "/lib/ld-musl-aarch64.so.1"),
)
"""The programs that load dynamic executables; the kernel executes them together with the program."""

DEVICES: Final = ("/dev/null",)

HTTPS_PORT: Final = 443
DNS_PORT: Final = 53
"""Long responses of name servers come over TCP."""

_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}
"""Default ports of proxies, for a URL without a port."""

_PRELOADED: Final = ("yt_dlp", "yt_dlp_ejs", "PIL", "msgspec")
"""Packages that the youtube child imports from, beside the standard library and this one."""


class Profiles(Struct, frozen=True, kw_only=True):
    """The profiles of one instance."""

    ffmpeg: Profile | None
    """None: the operator's ffmpeg is a script, which cannot be confined by a profile."""
    youtube: Profile

    def youtube_through(self, egress: Egress) -> Profile:
        """Return the profile of the youtube child for this way to YouTube."""
        return replace(self.youtube, ports=_ports(egress.proxy), may_bind=egress.source_address is not None)


def profiles_of(settings: ToolSettings, *, ffmpeg: str, deno: str | None, packages: Path | None = None) -> Profiles:
    """Return the profiles for these settings and programs. Reads the first bytes of ffmpeg.

    `packages` is the folder of the release of yt-dlp, if it is not the built-in one.
    """
    return Profiles(
        ffmpeg=None if is_script(ffmpeg) else tool_profile(ffmpeg),
        youtube=youtube_profile(settings, deno=deno, packages=packages),
    )


def is_script(program: str) -> bool:
    """Return whether a program is a script, which starts other programs and so cannot be confined by a profile."""
    try:
        with Path(program).open("rb") as file:
            return file.read(2) == b"#!"
    except OSError:
        return False


def tool_profile(program: str) -> Profile:
    """Return the profile of ffmpeg or deno: nothing but the program, and its shared libraries.

    A program in a folder `bin` may have libraries of its own in the folder `lib` beside it, as in Conda and Homebrew.
    """
    libraries = str(Path(program).parent.parent / "lib")
    return Profile(programs=(program, *INTERPRETERS), readable=(*LIBRARIES, libraries), devices=DEVICES)


def youtube_profile(settings: ToolSettings, *, deno: str | None, packages: Path | None = None) -> Profile:
    """Return the profile of the youtube child, without its scratch folder. `packages`: as for `profiles_of`.

    If the solver does not respond, yt-dlp starts deno from this child, so the child may execute deno.
    """
    return Profile(
        programs=() if deno is None else (deno, *INTERPRETERS),
        readable=(*LIBRARIES, *NAME_RESOLUTION, *python_folders(), *(() if packages is None else (str(packages),))),
        devices=DEVICES,
        ports=_ports(settings.egress_proxy),
        may_bind=settings.egress_source_address is not None,
        starts_programs=True,
    )


def python_folders() -> tuple[str, ...]:
    """Return the folders of the modules that the youtube child may import later.

    A folder named `site-packages` or `dist-packages` is included as a whole. From any other folder, which may be that
    of the project, only the packages themselves are included.
    """
    folders = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), str(Path(ytmp3.__file__).parent)}
    for name in _PRELOADED:
        spec = importlib.util.find_spec(name)
        for package in () if spec is None else spec.submodule_search_locations or ():
            parent = Path(package).parent
            is_packages_only = parent.name in {"site-packages", "dist-packages"}
            folders.add(str(parent) if is_packages_only else package)
    folders.update(path for path in sys.path if path.endswith((".zip", "lib-dynload")))
    return tuple(sorted(folders))


def _ports(proxy: str | None) -> tuple[int, ...]:
    """Return the ports that the youtube child connects to."""
    return (DNS_PORT, HTTPS_PORT) if proxy is None else (DNS_PORT, _port_of(proxy))


def _port_of(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or _DEFAULT_PORTS.get(parts.scheme, HTTPS_PORT)
