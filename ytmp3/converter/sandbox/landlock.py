"""Landlock: restricts a process to the files, TCP ports and processes of its profile, without any privilege.

The rights are those of the running kernel's ABI, so an older kernel restricts less: TCP ports since ABI 4, signals and
abstract Unix sockets since ABI 6. Everything that is not granted is refused, and no descendant can undo it. Constants
are from linux/landlock.h; the kernel's documentation is userspace-api/landlock.rst.

Landlock does not restrict stat, chdir, chmod, chown, utime and extended attributes. The `seccomp` filter refuses those
of them that modify a file.
"""

import contextlib
import errno
import os
import struct
from collections.abc import Callable, Iterator
from typing import Final

from ytmp3.converter.sandbox.protocol import Profile

SystemCall = Callable[..., int]
"""`syscall(2)`: takes the number and the arguments, and raises OSError."""

NEWEST_ABI: Final = 7
"""The newest ABI that this module supports. On a newer kernel, only the features of this ABI are used."""
NETWORK_ABI: Final = 4
"""The first ABI with rules for TCP ports."""
SCOPES_ABI: Final = 6
"""The first ABI that keeps signals and connections to abstract Unix sockets inside the sandbox."""

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION: Final = 1
_RULE_PATH, _RULE_PORT = 1, 2

_EXECUTE: Final = 1 << 0
_WRITE_FILE: Final = 1 << 1
_READ_FILE: Final = 1 << 2
_READ_FOLDER: Final = 1 << 3
_REMOVE_FOLDER: Final = 1 << 4
_REMOVE_FILE: Final = 1 << 5
_MAKE_FOLDER: Final = 1 << 7
_MAKE_FILE: Final = 1 << 8
_REFER: Final = 1 << 13
_TRUNCATE: Final = 1 << 14
_IOCTL_DEVICE: Final = 1 << 15

_RIGHTS_OF_ABI: Final = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
"""All file rights of an ABI; an ABI that is not listed has those of the one before."""
_RIGHTS_ON_FILES: Final = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEVICE
"""The rights that a rule for a single file may grant."""

_PROGRAM: Final = _EXECUTE | _READ_FILE
_READ: Final = _READ_FILE | _READ_FOLDER
_WRITE: Final = _READ | _WRITE_FILE | _TRUNCATE | _MAKE_FILE | _REMOVE_FILE | _MAKE_FOLDER | _REMOVE_FOLDER | _REFER
_DEVICE: Final = _READ_FILE | _WRITE_FILE

_BIND_TCP: Final = 1 << 0
_CONNECT_TCP: Final = 1 << 1
_SCOPED_SOCKETS_AND_SIGNALS: Final = 0b11


def abi_of_kernel(system_call: SystemCall) -> int:
    """Return the ABI of the running kernel, at most NEWEST_ABI; 0 if Landlock is missing or disabled."""
    try:
        return min(NEWEST_ABI, system_call(_CREATE_RULESET, None, 0, _ASK_VERSION))
    except OSError:
        return 0


def rights_of(abi: int) -> int:
    """Return all file rights that an ABI can restrict."""
    return _RIGHTS_OF_ABI[max(known for known in _RIGHTS_OF_ABI if known <= abi)]


def ruleset_attributes(abi: int) -> bytes:
    """Return the `struct landlock_ruleset_attr` with everything that this ABI can restrict."""
    attributes = struct.pack("Q", rights_of(abi))
    if abi >= NETWORK_ABI:
        attributes += struct.pack("Q", _BIND_TCP | _CONNECT_TCP)
    if abi >= SCOPES_ABI:
        attributes += struct.pack("Q", _SCOPED_SOCKETS_AND_SIGNALS)
    return attributes


def file_rules(profile: Profile) -> Iterator[tuple[str, int]]:
    """Yield the paths of a profile, each with the rights on it."""
    for paths, rights in (
        (profile.programs, _PROGRAM),
        (profile.readable, _READ),
        (profile.writable, _WRITE),
        (profile.devices, _DEVICE),
    ):
        for path in paths:
            yield path, rights


def restrict(system_call: SystemCall, abi: int, profile: Profile) -> None:
    """Restrict this process to its profile, permanently. It must have set `no_new_privs`.

    Raises:
        OSError: the process is not restricted, and must not continue.
    """
    attributes = ruleset_attributes(abi)
    ruleset = system_call(_CREATE_RULESET, attributes, len(attributes), 0)
    try:
        handled = rights_of(abi)
        for path, rights in file_rules(profile):
            _allow_path(system_call, ruleset, path, rights & handled)
        if abi >= NETWORK_ABI:
            for port in profile.ports:
                _allow_port(system_call, ruleset, _CONNECT_TCP, port)
            if profile.may_bind:
                # Port 0 means any free port. It is the source port of a connection, not a port to listen on.
                _allow_port(system_call, ruleset, _BIND_TCP, 0)
        system_call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow_path(system_call: SystemCall, ruleset: int, path: str, rights: int) -> None:
    """Add a rule. A path that does not exist is ignored, and nothing is granted for it."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            try:
                # struct landlock_path_beneath_attr is packed: 64 bits of rights, 32 bits of descriptor.
                system_call(_ADD_RULE, ruleset, _RULE_PATH, struct.pack("=Qi", rights, descriptor), 0)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                # A rule for a file must not grant rights that only folders have.
                attributes = struct.pack("=Qi", rights & _RIGHTS_ON_FILES, descriptor)
                system_call(_ADD_RULE, ruleset, _RULE_PATH, attributes, 0)
        finally:
            os.close(descriptor)


def _allow_port(system_call: SystemCall, ruleset: int, rights: int, port: int) -> None:
    system_call(_ADD_RULE, ruleset, _RULE_PORT, struct.pack("QQ", rights, port), 0)
