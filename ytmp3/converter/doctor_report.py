"""Judges what `doctor` has found, and puts it into words for a report. Pure.

The report is made to be shown to others: it has no address of this machine, no link to media, no password, no cookie.
"""

from collections.abc import Iterator
from typing import Any, Final

from msgspec import to_builtins

from ytmp3.converter.doctor import Asked, Findings, WayTried
from ytmp3.converter.youtube.events import Probed, Sample
from ytmp3.converter.youtube.signs import Sign
from ytmp3.core.examination import MEANINGS, Outcome, outcome_of_all, outcome_of_way

_NEVER_BROKEN: Final = frozenset({"sandbox", "solver", "po-tokens", "cookies"})
"""Checks that describe a state, and are never a reason to be unready."""


def serves(found: Probed) -> bool:
    """Whether a client has served both samples; or one, of a track that is too short for the second."""
    later = found.later is None or not found.later.error
    return not found.code and found.beginning is not None and not found.beginning.error and later


def outcome_of(findings: Findings) -> Outcome:
    """Judge all of it."""
    if any(not tool.ok for tool in findings.tools if tool.name not in _NEVER_BROKEN):
        return Outcome.BROKEN
    return outcome_of_all(map(_outcome_of_way, findings.ways))


def _outcome_of_way(way: WayTried) -> Outcome:
    serving = [asked.group for asked in way.clients if serves(asked.found)]
    return outcome_of_way(serving, [asked.found.code for asked in way.clients])


def as_json(findings: Findings) -> dict[str, Any]:
    """Return the report for a program. Fields may be added to it, and none is renamed."""
    outcome = outcome_of(findings)
    report: dict[str, Any] = {
        "outcome": outcome.name.lower(),
        "exit_code": int(outcome),
        "meaning": MEANINGS[outcome],
        **to_builtins(findings),
    }
    for way, tried in zip(report["ways"], findings.ways, strict=True):
        for client, asked in zip(way["clients"], tried.clients, strict=True):
            del client["found"]["type"]
            client["works"] = serves(asked.found)
            client["challenge"] = _challenge(asked.found)
            client["token"] = _token(asked.found)
    return report


def as_text(findings: Findings) -> str:
    """Return the report for a person."""
    return "\n".join(_lines(findings)) + "\n"


def _lines(findings: Findings) -> Iterator[str]:
    about = findings.about
    age = "" if about.extractor_age_days is None else f", released {about.extractor_age_days} days ago"
    yield f"ytmp3 {about.ytmp3}, Python {about.python}, {about.system}, {about.time}"
    yield f"video {findings.video_id}"
    yield ""
    for tool in findings.tools:
        more = age if tool.name == "yt-dlp" else ""
        yield f"{'ok  ' if tool.ok else 'FAIL'}  {tool.name:<11} {tool.version or '-'}  {tool.detail}{more}"
    for way in findings.ways:
        yield ""
        yield f"egress route {way.name}: {way.description}"
        for asked in way.clients:
            yield from _lines_of_client(asked)
    outcome = outcome_of(findings)
    yield ""
    if findings.budget:
        yield findings.budget
    yield f"{MEANINGS[outcome]} (exit code {int(outcome)})"


def _lines_of_client(asked: Asked) -> Iterator[str]:
    found = asked.found
    yield f"  {'ok  ' if serves(found) else 'FAIL'}  {asked.client}"
    rows = {
        "error": f"{found.code}: {found.reason}" if found.code else "",
        "formats": _formats(found),
        "chosen": found.format,
        "first MB": _sample(found.beginning),
        "after 1 min": _sample(found.later) or _no_later_sample(found),
        "n": _challenge(found),
        "PO token": _token(found),
        "address": _address(found),
        "signs": ", ".join(f"{sign} {count}" for sign, count in sorted(_signs(found).items())),
        "cost": _cost(found),
    }
    for name, value in rows.items():
        if value:
            yield f"        {name:<12} {value}"


def _formats(found: Probed) -> str:
    counted = found.facts.formats
    kinds = (
        (counted.audio, "sound"),
        (counted.muxed, "sound and picture"),
        (counted.video, "picture"),
        (counted.protected, "protected"),
        (counted.storyboards, "storyboards"),
    )
    return ", ".join(f"{count} {kind}" for count, kind in kinds if count) or "none"


def _sample(sample: Sample | None) -> str:
    if sample is None:
        return ""
    if sample.error:
        return f"FAIL after {sample.size_bytes:,} bytes: {sample.error}"
    return f"{sample.size_bytes:,} bytes in {sample.seconds:.2f} s"


def _no_later_sample(found: Probed) -> str:
    is_asked = found.beginning is not None and not found.beginning.error
    return "not tried: the track is too short, or its size is unknown" if is_asked else ""


def _signs(found: Probed) -> dict[str, int]:
    """Return the signs of trouble that were met. The child is not trusted: unknown names are dropped."""
    return {sign.value: found.facts.signs[sign] for sign in Sign if found.facts.signs.get(sign, 0) > 0}


def _challenge(found: Probed) -> str:
    if found.is_solved:
        return "solved"
    return "failed" if _signs(found).get(Sign.CHALLENGE_FAILED) else "not needed" if found.format else "not known"


def _token(found: Probed) -> str:
    if found.has_token:
        return "in the link"
    return "needed, and none there" if _signs(found).get(Sign.PO_TOKEN) else "none"


def _address(found: Probed) -> str:
    parts = [] if found.family is None else [f"asked over IPv{found.family}"]
    if found.link_family is not None:
        parts.append(f"link made for IPv{found.link_family}")
    return ", ".join(parts)


def _cost(found: Probed) -> str:
    return (
        f"{found.extract_seconds:.1f} s, {found.cpu_seconds:.2f} CPU s, {found.peak_bytes // 10**6} MB, "
        f"{found.requests} requests"
    )
