"""The checksum of Ogg pages (RFC 3533, section 6). Pure."""

import zlib
from typing import Final

_REVERSED: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def checksum(page: bytes) -> int:
    """Return the CRC-32 of a page whose checksum field is zero (polynomial 0x04C11DB7, most significant bit first).

    zlib computes the CRC of the same polynomial from the least significant bit on. So the bits of each byte are
    reversed before, and those of the result afterwards: this is a hundred times as fast as a loop in Python.
    """
    reversed_crc = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(reversed_crc.to_bytes(4, "little").translate(_REVERSED))
