"""A real WebM that never ends: one cluster, sent again and again with a later time.

So a client that trusts the announced length, or waits for the end, is fed decodable sound for as long as it asks.
"""

from collections.abc import Iterator
from typing import Final

_CLUSTER: Final = bytes.fromhex("1F43B675")
_SEGMENT: Final = bytes.fromhex("18538067")
_TIMECODE: Final = 0xE7
_UNKNOWN: Final = b"\x01" + b"\xff" * 7


def _size(body: memoryview, at: int) -> tuple[int, int]:
    """Read an EBML length; return it and where it ends (RFC 8794, section 4)."""
    width = 9 - body[at].bit_length()
    value = int.from_bytes(body[at : at + width], "big") & ((1 << 7 * width) - 1)
    return value, at + width


def _first_cluster(body: memoryview) -> tuple[bytes, bytes]:
    """Return what stands before the first cluster, with the segment's length made unknown, and the cluster's blocks."""
    whole = bytes(body)
    segment_at, cluster_at = whole.index(_SEGMENT), whole.index(_CLUSTER)
    _, inside_segment = _size(body, segment_at + 4)
    head = whole[: segment_at + 4] + _UNKNOWN + whole[inside_segment:cluster_at]
    length, inside = _size(body, cluster_at + 4)
    if whole[inside] != _TIMECODE:
        raise ValueError("the cluster does not begin with its time")
    time_length, time_at = _size(body, inside + 1)
    return head, whole[time_at + time_length : inside + length]


def clusters(body: memoryview, step_milliseconds: int) -> Iterator[bytes]:
    """Yield the head, then clusters for ever; the body's first cluster must last a step."""
    head, blocks = _first_cluster(body)
    yield head
    time = 0
    while True:
        content = bytes((_TIMECODE, 0x88)) + time.to_bytes(8, "big") + blocks
        yield _CLUSTER + (0x01 << 56 | len(content)).to_bytes(8, "big") + content
        time += step_milliseconds
