"""Shows what YouTube offers for a video as text, for `ytmp3 probe`. Pure."""

from collections.abc import Iterator
from typing import Any


def described(found: dict[str, Any]) -> str:
    """Return the response to `POST /probe` as text."""
    return "\n".join(_lines(found))


def _lines(found: dict[str, Any]) -> Iterator[str]:
    metadata = found["metadata"]
    yield metadata["title"]
    if metadata["uploader"] is not None:
        yield f"  by         {metadata['uploader']}"
    yield f"  link       {found['url']}"
    if metadata["duration_seconds"] is not None:
        yield f"  duration   {_time(metadata['duration_seconds'])}"
    languages = (
        f"{each['language']}{' (original)' if each['is_original'] else ''}: {', '.join(each['formats'])}"
        for each in found["languages"]
    )
    yield from _listed("languages", languages)
    yield from _listed("formats", map(_format, found["formats"]))
    chapters = (f"{_time(each['start_seconds'])}  {each['title']}" for each in metadata["chapters"])
    yield from _listed("chapters", chapters)


def _listed(name: str, items: Iterator[str]) -> Iterator[str]:
    for number, item in enumerate(items):
        yield f"  {'' if number else name:<10} {item}"


def _format(found: dict[str, Any]) -> str:
    parts = [found["format"], found["quality"] or ""]
    if found["bitrate_kbps"] is not None:
        parts.append(f"{found['bitrate_kbps']:g} kbit/s")
    if found["size_bytes"] is not None:
        parts.append(f"about {found['size_bytes'] / 1e6:.1f} MB")
    return " ".join(filter(None, parts))


def _time(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
