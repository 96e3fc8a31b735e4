"""Applies the profile of a child process, between fork and exec: which files, programs, processes and hosts it reaches.

Three mechanisms, each for one kind of access:

* Files, TCP ports, signals: Landlock; on kernels without it, a mount namespace with only the profile's files.
* System calls: a seccomp filter, with a list for each kind of child.
* Capabilities: all are dropped, for instances that run as root.

Which of them the kernel supports is determined once, in forks of the zygote (`Protections`). From then on, a child to
which they cannot be applied is not started.
"""

import contextlib
import ctypes
import errno
import os
import platform
import struct
from collections.abc import Callable
from typing import Final

from ytmp3.converter.sandbox import landlock
from ytmp3.converter.sandbox.limits import Kernel
from ytmp3.converter.sandbox.mounts import Mounts
from ytmp3.converter.sandbox.protocol import Profile, Protections, ResourceLimits
from ytmp3.converter.sandbox.seccomp import Rules, Sockets, Starts, filter_of

NO_ACCESS: Final = Profile()
"""Grants no access. Only descriptors that are already open stay usable."""

_PR_SET_SECCOMP: Final = 22
_PR_CAPBSET_READ: Final = 23
_PR_CAPBSET_DROP: Final = 24
_SECCOMP_MODE_FILTER: Final = 2

_CAPABILITIES: Final = 64
"""Number of possible capabilities: one more than the highest number."""
_DAC_OVERRIDE: Final = 1
"""root keeps the capability to access folders of other users, because its scratch folder may be inside one. Landlock
and mount namespaces apply nevertheless."""
_CAPABILITY_VERSION: Final = 0x20080522


class Confinement:
    """Made once in the zygote, and used in its children."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._mounts = Mounts(kernel.call)
        self._machine = platform.machine()
        self.protections = Protections()

    def find_out(self) -> Protections:
        """Determine what this system supports. Each mechanism is tried in a fork, because it cannot be undone."""
        abi = landlock.abi_of_kernel(self._kernel.system_call)
        if abi and not _succeeds(lambda: landlock.restrict(self._kernel.system_call, abi, NO_ACCESS)):
            abi = 0
        rules = Rules(pid=0, sockets=Sockets.NONE)
        self.protections = Protections(
            landlock_abi=abi,
            has_mount_namespaces=not abi and _succeeds(lambda: self._hide_files(NO_ACCESS)),
            has_seccomp=_succeeds(lambda: self._install_filter(rules)),
        )
        return self.protections

    def prepare(self) -> None:
        """Build the filters of all kinds of children once, instead of in each child. Called before any fork."""
        tool, child = Profile(), Profile(starts_programs=True)
        for limits in (
            ResourceLimits(file_bytes=0, cpu_seconds=0, profile=tool),
            ResourceLimits(file_bytes=0, cpu_seconds=0, profile=tool, socket_pairs=True),
            ResourceLimits(file_bytes=0, cpu_seconds=0, profile=child, network=True),
        ):
            filter_of(self._machine, self._rules(limits, self._kernel.open_files))
        filter_of(self._machine, _rules_without_access())

    def confine(self, limits: ResourceLimits, program: int) -> None:
        """Confine this process. `program` is the descriptor of the program to execute next; negative: none.

        Raises:
            OSError: it is not confined, and must not go on.
        """
        profile = limits.profile
        if profile is not None:
            self._restrict_files(profile)
            self._drop_capabilities()
        self._filter(self._rules(limits, program), is_needed=profile is not None or not limits.network)

    def _rules(self, limits: ResourceLimits, program: int) -> Rules:
        profile = limits.profile
        sockets = Sockets.PAIRS if limits.socket_pairs else Sockets.NONE
        starts_any = profile is None or profile.starts_programs
        starts = Starts.ONE if program >= 0 else Starts.NONE
        return Rules(
            pid=os.getpid(),
            sockets=Sockets.INTERNET if limits.network and profile else sockets,
            starts=Starts.ANY if starts_any else starts,
            program=-1 if starts_any else program,
            may_change_attributes=profile is None,
            may_kill=(profile is not None and profile.starts_programs) and self._keeps_signals_inside,
        )

    def leave_everything(self) -> None:
        """Give up all access except to open descriptors. The youtube child calls this before it decodes a picture.

        Raises:
            OSError: it is not confined, and must not go on.
        """
        if self.protections.landlock_abi:
            landlock.restrict(self._kernel.system_call, self.protections.landlock_abi, NO_ACCESS)
        self._filter(Rules(pid=os.getpid(), sockets=Sockets.NONE, starts=Starts.NONE, may_open=False), is_needed=True)

    @property
    def _keeps_signals_inside(self) -> bool:
        return self.protections.landlock_abi >= landlock.SCOPES_ABI

    def _restrict_files(self, profile: Profile) -> None:
        if self.protections.landlock_abi:
            landlock.restrict(self._kernel.system_call, self.protections.landlock_abi, profile)
        elif self.protections.has_mount_namespaces:
            self._hide_files(profile)

    def _hide_files(self, profile: Profile) -> None:
        with self._kernel.with_own_proc_files():
            self._mounts.hide_files(profile)

    def _drop_capabilities(self) -> None:
        """Drop all capabilities, of this process and of every program that it executes."""
        kept = 0
        if os.geteuid() == 0:
            kept = 1 << _DAC_OVERRIDE
            for number in range(_CAPABILITIES):
                if number != _DAC_OVERRIDE and self._has_in_bounding_set(number):
                    # If root lacks the right to drop a capability, no_new_privs still keeps programs from gaining it.
                    with contextlib.suppress(OSError):
                        self._kernel.prctl(_PR_CAPBSET_DROP, number)
        header = struct.pack("Ii", _CAPABILITY_VERSION, 0)
        if kept:
            # In a container, root may already lack this capability.
            kept &= self._permitted(header)
        # struct __user_cap_data_struct, twice: effective, permitted, inheritable; the low 32 bits, then the high ones.
        self._kernel.call("capset", header, struct.pack("6I", kept, kept, 0, 0, 0, 0))

    def _has_in_bounding_set(self, number: int) -> bool:
        try:
            return self._kernel.call("prctl", _PR_CAPBSET_READ, number, 0, 0, 0) == 1
        except OSError:
            return False

    def _permitted(self, header: bytes) -> int:
        found = bytearray(24)
        buffer = (ctypes.c_char * 24).from_buffer(found)
        self._kernel.call("capget", header, buffer)
        return int(struct.unpack("6I", bytes(found))[1])

    def _filter(self, rules: Rules, *, is_needed: bool) -> None:
        if is_needed and self.protections.has_seccomp:
            self._install_filter(rules)

    def _install_filter(self, rules: Rules) -> None:
        code = filter_of(self._machine, rules)
        if code is None:
            raise OSError(errno.ENOSYS, "no filter for this architecture")
        program = ctypes.create_string_buffer(code, len(code))
        # struct sock_fprog: a count of 8-byte instructions, padding, a pointer.
        header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(program)))
        try:
            self._kernel.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(header))
        except OSError as error:
            raise OSError(error.errno, "the system call filter cannot be installed") from error


def _rules_without_access() -> Rules:
    return Rules(pid=os.getpid(), sockets=Sockets.NONE, starts=Starts.NONE, may_open=False)


def _succeeds(act: Callable[[], object]) -> bool:
    """Return whether `act` succeeds. It runs in a fork, because it cannot be undone."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            act()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1] == 0
