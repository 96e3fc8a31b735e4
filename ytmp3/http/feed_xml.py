"""Renders a feed: RSS 2.0 with the iTunes elements that podcast apps show. Pure."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from ytmp3.core.job import Ticket
from ytmp3.core.link import canonical_link

_FORBIDDEN: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 does not allow, not even as references."""


def feed_document(tickets: Iterable[Ticket], *, feed_url: str, track_url: str) -> bytes:
    """Return the feed of some finished jobs. `track_url` is the address of a track without its file name."""
    items = "".join(_item(ticket, track_url) for ticket in tickets)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<rss version="2.0" xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd" '
        'xmlns:atom="http://www.w3.org/2005/Atom">\n<channel>\n'
        f"<title>ytmp3</title>\n<link>{escape(feed_url)}</link>\n<description>Converted tracks</description>\n"
        f'<atom:link href={quoteattr(feed_url)} rel="self" type="application/rss+xml"/>\n'
        "<itunes:block>Yes</itunes:block>\n"
        f"{items}</channel>\n</rss>\n"
    ).encode()


def _item(ticket: Ticket, track_url: str) -> str:
    job, conversion = ticket.job, ticket.conversion
    track, metadata, completed_at = conversion.track, ticket.metadata, conversion.completed_at
    if track is None or metadata is None or completed_at is None:
        return ""
    url = quoteattr(f"{track_url}/{job.job_id}.{conversion.recipe.extension}")
    author = _text(metadata.artist or metadata.uploader or "")
    return (
        f'<item>\n<title>{_text(metadata.title)}</title>\n<guid isPermaLink="false">{job.job_id}</guid>\n'
        f"<link>{escape(canonical_link(conversion.video_id))}</link>\n<itunes:author>{author}</itunes:author>\n"
        f"<pubDate>{format_datetime(datetime.fromtimestamp(completed_at, UTC), usegmt=True)}</pubDate>\n"
        f"<itunes:duration>{round(track.duration_seconds)}</itunes:duration>\n"
        f'<enclosure url={url} length="{track.size_bytes}" type="{conversion.recipe.media_type}"/>\n</item>\n'
    )


def _text(text: str) -> str:
    return escape(_FORBIDDEN.sub("", text))
