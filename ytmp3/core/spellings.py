"""Parts of the regular expressions for values from clients, which may be written in several ways. Pure.

Each expression is both the `pattern` of the field in the OpenAPI document and the check of the parser, so both accept
the same texts. It has no flags, because a JSON Schema cannot have them.
"""

from collections.abc import Iterable
from typing import Final

WHITE_SPACE: Final = r"[ \t\r\n]*"
"""White space around a value, which is ignored: that of JSON (RFC 8259, section 2)."""


def in_any_case(word: str) -> str:
    """Return an expression for this ASCII word in upper, lower or mixed case."""
    return "".join(f"[{letter.lower()}{letter.upper()}]" if letter.isalpha() else letter for letter in word)


def one_of(expressions: Iterable[str]) -> str:
    """Return an expression for a whole text that fits one of these, with white space around it."""
    return f"^{WHITE_SPACE}(?:{'|'.join(expressions)}){WHITE_SPACE}$"
