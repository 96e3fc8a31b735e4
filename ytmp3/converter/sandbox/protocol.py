"""The messages between the server and its zygote: each packet has one JSON message, and may carry descriptors.

The server sends a Request, and the zygote responds with Replies. `Fork.task` and `Ready.preloaded` are bytes whose
content only the preloaded program and its caller define.
"""

from typing import Final

import msgspec
from msgspec import Struct

MAX_PACKET_BYTES: Final = 128 * 1024
"""Largest packet, in bytes. Our requests are far smaller, and the default socket buffer of Linux is larger (208
KiB)."""

EVENTS_DESCRIPTOR: Final = 3
"""The descriptor to which a forked child writes its events. Descriptor 0 is /dev/null, and 1 and 2 are the log pipe."""

FIRST_MORE_DESCRIPTOR: Final = 4
"""The first of the further descriptors that a request to fork may bring."""

NOT_STARTED_STATUS: Final = 127
"""Exit status of a child whose program could not be executed, as in a shell."""


class Profile(Struct, frozen=True, kw_only=True):
    """What a child process may reach. Nothing else has a name for it, also if its program is taken over.

    `confinement.Confinement` applies it with what the kernel offers. A path that does not exist grants nothing.
    """

    programs: tuple[str, ...] = ()
    """Files that may be executed. Needed for the program of the child itself, and for its ELF interpreter."""
    readable: tuple[str, ...] = ()
    """Files, and folders with everything in them."""
    writable: tuple[str, ...] = ()
    """Folders in which it may create, change and remove files."""
    devices: tuple[str, ...] = ()
    """Device files that it may read and write."""
    ports: tuple[int, ...] = ()
    """TCP ports that it may connect to, if it has the network at all and the kernel can tell them apart."""
    may_bind: bool = False
    """Whether it may choose the source address of its connections."""
    starts_programs: bool = False
    """Whether it may start `programs` whenever it likes. If not, it can start neither programs nor processes."""


class Protections(Struct, frozen=True, kw_only=True):
    """What this kernel and this system offer for the sandbox. The zygote finds out at its start."""

    landlock_abi: int = 0
    """0: no Landlock."""
    has_mount_namespaces: bool = False
    """Whether files can be hidden by a mount namespace instead. Tried only without Landlock."""
    has_seccomp: bool = False

    @property
    def hides_files(self) -> bool:
        """Whether a child process reaches only the files of its profile."""
        return self.landlock_abi > 0 or self.has_mount_namespaces


class ResourceLimits(Struct, frozen=True, kw_only=True):
    """The limits of a child process, applied between fork and exec by `limits.Kernel` and `confinement.Confinement`."""

    file_bytes: int
    """Largest file that the child may write (RLIMIT_FSIZE)."""
    cpu_seconds: int
    """CPU time of each process (RLIMIT_CPU)."""
    memory_bytes: int = 0
    """Address space (RLIMIT_AS); 0: no limit, because a JavaScript engine reserves far more than it uses."""
    data_bytes: int = 0
    """Private writable memory, used or only reserved (RLIMIT_DATA); 0: no limit."""
    niceness: int = 10
    core: int | None = None
    """The only CPU core that the child may run on; None: all cores of the server."""
    network: bool = False
    """Whether the child may open sockets. If not, a seccomp filter prevents it, for its descendants too."""
    socket_pairs: bool = False
    """Whether it may make pairs of connected sockets although it has no network, as deno needs."""
    profile: Profile | None
    """What it may reach. None: all files and programs of the user, which only an operator's own script needs. It has no
    default, so that no child is started without one by mistake."""


class Fork(Struct, frozen=True, kw_only=True, tag=True):
    """Fork a child that runs the preloaded program. Descriptors: the log pipe, the events pipe, and any more."""

    child: int
    """The child's number, chosen by the server. All later messages about the child contain it."""
    task: bytes
    """The argument of `Preloaded.run`."""
    limits: ResourceLimits


class Execute(Struct, frozen=True, kw_only=True, tag=True):
    """Fork and execute a program. The descriptors become its descriptors 0, 1, 2, 3, ... in this order."""

    child: int
    argv: list[str]
    environment: dict[str, str]
    folder: str
    """The working folder of the program."""
    limits: ResourceLimits


class Signal(Struct, frozen=True, kw_only=True, tag=True):
    """Send a signal to the process group of a child. Does nothing if the child has ended."""

    child: int
    signal: int


class Ping(Struct, frozen=True, kw_only=True, tag=True):
    """Ask for a Pong: whether the zygote still works."""


Request = Fork | Execute | Signal | Ping


class Ready(Struct, frozen=True, kw_only=True, tag=True):
    """The zygote's first message: everything is loaded."""

    preloaded: bytes
    """The value of `Preloaded.ready`."""
    protections: Protections
    """What every child process is confined with. A child that cannot be confined like this is not started."""


class Started(Struct, frozen=True, kw_only=True, tag=True):
    """The child has been forked."""

    child: int
    pid: int


class Refused(Struct, frozen=True, kw_only=True, tag=True):
    """The child could not be forked."""

    child: int
    reason: str


class Ended(Struct, frozen=True, kw_only=True, tag=True):
    """The child has ended and has been reaped, and its process group is gone."""

    child: int
    status: int
    """Exit status; negative for the signal that ended it."""


class Pong(Struct, frozen=True, kw_only=True, tag=True):
    """The reply to a Ping. All earlier requests have been carried out."""


Reply = Ready | Started | Refused | Ended | Pong


encode_request = msgspec.json.Encoder().encode
decode_request = msgspec.json.Decoder(Request).decode
decode_reply = msgspec.json.Decoder(Reply).decode
