"""The CRC-32 of a file of which a part is replaced, without reading the rest of the file. Pure.

A CRC-32 is the remainder of a division of polynomials over GF(2), so it is linear: if two files of the same length
differ in one part, the difference of their checksums depends on that part and the number of bytes behind it only.

Sources: RFC 1952, section 8; the functions `crc32_combine`, `multmodp` and `x2nmodp` of zlib 1.2.12 compute the same.
"""

import zlib
from typing import Final

_POLYNOMIAL: Final = 0xEDB88320
"""The polynomial of CRC-32 without its highest term. As in all of this module, bit 31 is the coefficient of x^0."""
_ONE: Final = 1 << 31
_ONE_BYTE: Final = 1 << 23
"""x^8: what one more byte multiplies a remainder by."""


def crc32_change(old: bytes, new: bytes, bytes_behind: int) -> int:
    """Return by what the CRC-32 of a file changes (exclusive or) if `new` replaces `old`, which has the same length.

    `bytes_behind` is the number of bytes of the file behind the replaced ones.
    """
    return _product(zlib.crc32(old) ^ zlib.crc32(new), _power(bytes_behind))


def _power(number: int) -> int:
    """Return x^(8 * number) modulo the polynomial."""
    power, square = _ONE, _ONE_BYTE
    while number:
        if number & 1:
            power = _product(power, square)
        square = _product(square, square)
        number >>= 1
    return power


def _product(left: int, right: int) -> int:
    """Return the product of two polynomials modulo the polynomial."""
    product, bit = 0, _ONE
    while bit:
        if left & bit:
            product ^= right
        right = right >> 1 ^ (_POLYNOMIAL if right & 1 else 0)
        bit >>= 1
    return product
