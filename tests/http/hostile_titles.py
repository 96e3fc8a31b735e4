"""Video titles that try to break a response header, and the check of the headers that they end up in."""

import random
from email.message import Message


def hostile_titles(count: int) -> list[str]:
    """Return titles with line breaks, quotes, control and bidirectional characters; the same ones each time."""
    chance = random.Random(16)
    alphabets = [
        [chr(n) for n in range(0x100)],
        [*"\"\\/;=%'*(){}[]<>:?|\r\n\t\x00\x1b ", "\u202e", "\u2066", "\u2028", "\ud800", "\U0001f600", "a", "."],
    ]
    titles = ["a\r\nX-Evil: 1", "a\nSet-Cookie: x=1", "\x00\x7f\ud800", '"; filename="evil.exe', "é" * 500, ""]
    while len(titles) < count:
        alphabet = chance.choice(alphabets)
        titles.append("".join(chance.choice(alphabet) for _ in range(chance.choice((1, 8, 40, 300)))))
    return titles


def assert_is_named_safely(fields: Message) -> None:
    """Assert that these header fields hold one safe file name, and no field that a title has added."""
    assert not {"x-evil", "set-cookie"} & {name.lower() for name in fields}
    (disposition,) = fields.get_all("Content-Disposition", [])
    name = fields.get_filename()
    assert disposition.startswith("attachment; ")
    assert name
    assert name.endswith(".mp3")
    assert not set(name) & set('"\\/\r\n\x00\u202e\u2066')
