"""Titles and fields that no well-behaved YouTube sends; the videos of two kinds have them, chosen by their number."""

from typing import Final

HOSTILE_TITLES: Final = (
    "all\r\nX-Evil: 1\x00 \"q\" 's' a/b\\c ..\u202egpj.exe \U0001f600 <script>alert(1)</script> \x1b[31mred\x1b[0m",
    "carriage\r\nX-Evil: 1",
    "nul\x00nul",
    "\"double\" and 'single' `back`",
    "../../etc/passwd",
    "back\\slash: a|b?c*d<e>f",
    "bidi \u202egpj.exe\u202c \u2066isolate\u2069",
    "emoji \U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f600",
    "<script>alert(document.domain)</script><img src=x onerror=alert(1)>",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x7f \x9b31m",
    "5" * 500,
    "\u00e9" * 250 + "\u65e5\u672c\u8a9e" * 83,
    "lone surrogate \ud800 here",
    '","status":"completed","x":"',
    "%(id)s %s {0} ${jndi:ldap://x} {{7*7}}",
    " \t ",
    "-rf --exec=id",
    "CON.txt.",
)

ODD_FIELDS: Final[tuple[dict[str, dict[str, object]], ...]] = (
    {"details": {"title": "../../../outside", "author": "..", "channelId": "../../outside"}},
    {"format": {"mimeType": 'audio/../../../outside; codecs="opus"'}},
    {"details": {"title": "/tmp/outside"}, "format": {"quality": "../.."}},
    {"details": {"shortDescription": ["a", {"list": 1}]}},
    {"details": {"title": ["a", "list"]}},
    {"details": {"title": {"an": "object"}, "author": 7}},
    {"details": {"videoId": "../../outside"}},
    {"details": {"lengthSeconds": ["4"]}},
    {"details": {"thumbnail": "../../outside"}},
    {"format": {"itag": "../../../outside"}},
    {"format": {"mimeType": ["audio/webm"]}},
    {"format": {"mimeType": 'audio/exe; codecs="opus"'}},
    {"format": {"contentLength": "-1"}},
    {"format": {"contentLength": {}}},
    {"format": {"url": "file:///etc/passwd"}},
    {"format": {"url": ["https://rr1---sn-fake.googlevideo.com/videoplayback"]}},
)
"""Fields that replace those of a good player response, in its part about the video or about its sound ("format")."""
