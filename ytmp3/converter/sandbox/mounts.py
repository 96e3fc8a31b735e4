"""A mount namespace with only the files of a profile: hides files on kernels without Landlock.

The process gets its own root folder, in memory, in which the profile's paths are mounted: read-only, except the
writable ones. No other file of the machine has a path there, and there is no `/proc`. An ordinary user needs a user
namespace for this, which some systems and most container runtimes refuse; `Protections` then shows that files are not
hidden.

Constants are from sys/mount.h and linux/sched.h.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from ytmp3.converter.sandbox.protocol import Profile

_NEW_MOUNTS: Final = 0x00020000
_NEW_USERS: Final = 0x10000000

_RDONLY, _NOSUID, _NODEV, _NOEXEC = 1, 2, 4, 8
_REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 32, 4096, 16384, 1 << 18
_NOATIME, _NODIRATIME, _RELATIME = 1024, 2048, 1 << 21
_ST_RELATIME: Final = 4096
_DETACH: Final = 2

_OLD_ROOT: Final = "/.old"

_BASES: Final = ("/tmp", "/dev", "/usr")  # noqa: S108  a mount point, which must exist; nothing is written there
"""Folders on which the new root is temporarily mounted. The first one that exists is used."""


class Mounts:
    """The system calls of mount namespaces."""

    def __init__(self, libc_call: Callable[..., int]) -> None:
        """`libc_call` takes the name of a function of libc and its arguments, and raises OSError."""
        self._call = libc_call

    def hide_files(self, profile: Profile) -> None:
        """Move this process into a new root with only the profile's files. Its working folder becomes `/`.

        Raises:
            OSError: this system refuses it. The process must not continue, because its view may be partly changed.
        """
        # Symbolic links are resolved now, because their targets do not exist in the new root.
        mounts = [(path, os.path.realpath(path), flags) for path, flags in _mounts_of(profile)]
        self._unshare()
        self._mount("none", "/", "", _RECURSIVE | _PRIVATE)
        base = next(base for base in _BASES if os.path.isdir(base))  # noqa: PTH112  between fork and exec
        self._mount("tmpfs", base, "tmpfs", _NOSUID | _NODEV, "mode=0755,size=1m")
        os.mkdir(base + _OLD_ROOT, 0o700)  # noqa: PTH102
        self._call("pivot_root", base.encode(), (base + _OLD_ROOT).encode())
        os.chdir("/")
        for path, source, flags in mounts:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                self._show(path, _OLD_ROOT + source, flags)
        self._call("umount2", _OLD_ROOT.encode(), _DETACH)
        os.rmdir(_OLD_ROOT)  # noqa: PTH106
        self._mount("none", "/", "", _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV)

    def _unshare(self) -> None:
        try:
            self._call("unshare", _NEW_MOUNTS)
        except OSError:
            user, group = os.geteuid(), os.getegid()
            self._call("unshare", _NEW_MOUNTS | _NEW_USERS)
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
            Path("/proc/self/gid_map").write_text(f"{group} {group} 1")

    def _show(self, path: str, source: str, flags: int) -> None:
        if os.path.isdir(source):  # noqa: PTH112
            os.makedirs(path, 0o755, exist_ok=True)  # noqa: PTH103
        else:
            os.stat(source)  # noqa: PTH116  raises if it does not exist
            os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)  # noqa: PTH103, PTH120
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
        self._mount(source, path, "", _BIND | _RECURSIVE)
        self._mount("none", path, "", _REMOUNT | _BIND | flags | _locked_flags(path))

    def _mount(self, source: str, target: str, kind: str, flags: int, options: str = "") -> None:
        self._call("mount", source.encode(), target.encode(), kind.encode() or None, flags, options.encode() or None)


def _mounts_of(profile: Profile) -> Iterator[tuple[str, int]]:
    """Yield the paths of a profile, each with its mount flags; a folder comes before the paths in it.

    Folders with shared libraries must not be mounted with `noexec`, because it also forbids mapping them as code.
    """
    flags = dict.fromkeys((*profile.programs, *profile.readable), _RDONLY | _NOSUID | _NODEV)
    flags |= dict.fromkeys(profile.writable, _NOSUID | _NODEV | _NOEXEC)
    flags |= dict.fromkeys(profile.devices, _NOSUID | _NOEXEC)
    shown: list[str] = []
    for path in sorted(flags):
        # A path in a folder that is mounted already has the flags of that folder; only writable ones differ.
        if path in profile.writable or not any(path.startswith(f"{folder}/") for folder in shown):
            shown.append(path)
            yield path, flags[path]


def _locked_flags(path: str) -> int:
    """Return the flags that a mount already has. A user namespace is not allowed to remove them."""
    present = os.statvfs(path).f_flag
    kept = present & (_RDONLY | _NOSUID | _NODEV | _NOEXEC | _NOATIME | _NODIRATIME)
    return kept | (_RELATIME if present & _ST_RELATIME else 0)
