"""Media servers that refuse parts or large ranges, fail once, redirect, or wait for an advertisement."""

from typing import Final

from tests.fake_youtube.behaviour import Behaviour, Delivery, Media
from tests.fake_youtube.kinds import Kind


def _delivered(summary: str, expected: str, delivery: Delivery, media: Media = Media.SHORT) -> Behaviour:
    return Behaviour(summary=summary, expected=expected, delivery=delivery, media=media)


DELIVERIES: Final[dict[Kind, Behaviour]] = {
    Kind.FORBIDDEN_AFTER_PART: _delivered(
        "each link serves 35 % of the bytes, then 403", "done", Delivery.FORBIDDEN_AFTER_PART, Media.CLIP
    ),
    Kind.SMALL_RANGES: _delivered("403 for a range of more than 1 MiB", "done", Delivery.SMALL_RANGES, Media.CLIP),
    Kind.BOUNDED_RANGES: _delivered("403 for a range without an end", "done", Delivery.BOUNDED_RANGES),
    Kind.EMPTY_ONCE: _delivered("first link: 200 without a byte", "done", Delivery.EMPTY_ONCE),
    Kind.BUSY_TWICE: _delivered("first two media requests: 503", "done", Delivery.BUSY_TWICE),
    Kind.RESET_ONCE: _delivered("first media request: connection reset", "done", Delivery.RESET_ONCE),
    Kind.LATE: _delivered("first byte of media after --delay", "done", Delivery.LATE),
    Kind.TO_ANOTHER_HOST: _delivered("media redirects to another media host", "done", Delivery.TO_ANOTHER_HOST),
    Kind.AD: Behaviour(
        summary="an advertisement of as many seconds as the number: media 403 before its end",
        expected="done",
        ad="whole",
    ),
    Kind.AD_SKIPPABLE: Behaviour(
        summary="an advertisement of 90 s that can be skipped after as many seconds as the number",
        expected="done",
        ad="skippable",
    ),
}
