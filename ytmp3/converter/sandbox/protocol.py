"""The messages between the server and its zygote: one JSON message in each packet, descriptors sent beside it.

The server sends a Request, the zygote answers with Replies. What the preloaded program is asked for (`Fork.task`) and
what it says about itself (`Ready.preloaded`) are bytes that only that program and its caller understand.
"""

from typing import Final

import msgspec
from msgspec import Struct

MAX_PACKET_BYTES: Final = 128 * 1024
"""Largest packet. Far above any request of ours, and below the default socket buffer of Linux (208 KiB)."""

EVENTS_DESCRIPTOR: Final = 3
"""Descriptor on which a forked child writes its events. Its 0 is /dev/null, its 1 and 2 are the log pipe."""

NOT_STARTED_STATUS: Final = 127
"""Exit status of a child whose program could not be executed, as in a shell."""


class ResourceLimits(Struct, frozen=True, kw_only=True):
    """What a child process may use. Applied between fork and exec by `limits.Kernel.confine`."""

    file_bytes: int
    """Largest file that it may write (RLIMIT_FSIZE)."""
    cpu_seconds: int
    """RLIMIT_CPU, per process."""
    memory_bytes: int = 0
    """Address space (RLIMIT_AS); 0 for no limit, because a JavaScript engine reserves far more than it uses."""
    data_bytes: int = 0
    """Private writable memory, used or only reserved (RLIMIT_DATA); 0 for no limit."""
    niceness: int = 10
    core: int | None = None
    """The only CPU core that it may run on; None for all cores of the server."""
    network: bool = False
    """Whether it may open sockets. If not, a seccomp filter refuses them, also to its descendants."""


class Fork(Struct, frozen=True, kw_only=True, tag=True):
    """Fork a child that runs the preloaded program. Descriptors: the log pipe, the events pipe."""

    child: int
    """Number that the server has given to the child; every later message about it carries the number."""
    task: bytes
    """For `Preloaded.run`."""
    limits: ResourceLimits


class Execute(Struct, frozen=True, kw_only=True, tag=True):
    """Fork and execute a program. The descriptors become its 0, 1, 2, 3, ... in order."""

    child: int
    argv: list[str]
    environment: dict[str, str]
    folder: str
    """Its working folder."""
    limits: ResourceLimits


class Signal(Struct, frozen=True, kw_only=True, tag=True):
    """Send a signal to the process group of a child. Does nothing if the child has ended."""

    child: int
    signal: int


Request = Fork | Execute | Signal


class Ready(Struct, frozen=True, kw_only=True, tag=True):
    """The zygote's first message: everything is loaded."""

    preloaded: bytes
    """From `Preloaded.ready`."""
    has_seccomp: bool
    """Whether this kernel accepts the filter that refuses the network."""


class Started(Struct, frozen=True, kw_only=True, tag=True):
    """The child exists."""

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


Reply = Ready | Started | Refused | Ended


encode_request = msgspec.json.Encoder().encode
decode_request = msgspec.json.Decoder(Request).decode
decode_reply = msgspec.json.Decoder(Reply).decode
