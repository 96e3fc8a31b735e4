"""The CRC-32 of a file of which a part is replaced, compared with that of the changed file."""

import zlib

from hypothesis import given
from hypothesis import strategies as st

from ytmp3.core.crc32 import crc32_change


@given(st.binary(max_size=50), st.binary(max_size=200))
def test_the_change_is_that_of_the_whole_file(before: bytes, parts: bytes) -> None:
    half = len(parts) // 2
    old, new = parts[:half], parts[half : 2 * half]
    for behind in (b"", b"x", b"sound" * 1000, bytes(70_001)):
        changed = zlib.crc32(before + old + behind) ^ crc32_change(old, new, len(behind))
        assert changed == zlib.crc32(before + new + behind)


def test_files_of_many_gigabytes_take_no_longer() -> None:
    behind, zeros = 1 << 33, bytes(1 << 16)
    assert crc32_change(b"a", b"a", behind) == 0
    once = crc32_change(b"a", b"b", 0)
    for size in (1, len(zeros)):
        # A change in front of zeros is the remainder of the change with as many zeros behind it.
        shifted = zlib.crc32(zeros[:size], 0) ^ zlib.crc32(zeros[:size], once)
        assert crc32_change(b"a", b"b", size) == shifted
    assert 0 < crc32_change(b"a", b"b", behind) < 1 << 32
