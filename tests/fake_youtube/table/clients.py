"""Answers that differ by player client."""

from typing import Final

from tests.fake_youtube.behaviour import EVERY_CLIENT, TELEVISIONS, Behaviour, Client, Links, Media
from tests.fake_youtube.kinds import Kind

_BUT_VISIONOS: Final = EVERY_CLIENT - {Client.VISIONOS}

CLIENTS: Final[dict[Kind, Behaviour]] = {
    Kind.BY_CLIENT: Behaviour(
        summary="every client gets what it gets from YouTube (see the table of clients)",
        expected="done",
        by_client=True,
    ),
    Kind.SABR: Behaviour(
        summary="SABR only for every client, and storyboards",
        expected="extractor_broken",
        links=dict.fromkeys(EVERY_CLIENT, Links.SABR),
    ),
    Kind.SABR_SOME: Behaviour(
        summary="SABR only for every client but VISIONOS",
        expected="done",
        links=dict.fromkeys(_BUT_VISIONOS, Links.SABR),
    ),
    Kind.DRM_TV: Behaviour(
        summary="the television clients' formats are protected",
        expected="done",
        links=dict.fromkeys(TELEVISIONS, Links.PROTECTED),
    ),
    Kind.TV_FORBIDDEN: Behaviour(
        summary="the television clients' media are 403", expected="done", forbidden_clients=TELEVISIONS
    ),
    Kind.TV_FORBIDDEN_LATE: Behaviour(
        summary="the television clients' media are 403 from 35 % on",
        expected="done",
        media=Media.CLIP,
        forbidden_clients=TELEVISIONS,
        forbidden_from=0.35,
    ),
    Kind.VISIONOS_FORBIDDEN: Behaviour(
        summary="by client; VISIONOS' media are 403",
        expected="done",
        by_client=True,
        forbidden_clients=frozenset({Client.VISIONOS}),
    ),
    Kind.UNSOLVABLE: Behaviour(
        summary="links scrambled for every client, with a player script that cannot be solved",
        expected="extractor_broken",
        links=dict.fromkeys(EVERY_CLIENT, Links.SCRAMBLED),
        player="unsolvable:1",
    ),
    Kind.UNSOLVABLE_TV: Behaviour(
        summary="by client, with a player script that cannot be solved: VISIONOS is left",
        expected="done",
        by_client=True,
        player="unsolvable:2",
    ),
    Kind.WRONG_SOLUTION: Behaviour(
        summary="links scrambled for every client, with a player script that solves to a wrong value: 403",
        expected="extractor_broken",
        links=dict.fromkeys(EVERY_CLIENT, Links.SCRAMBLED),
        player="misleading:1",
    ),
}
