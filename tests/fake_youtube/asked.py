"""One answer to one client: everything that decides what it says."""

import dataclasses
from typing import Final

from .behaviour import Behaviour, Client, Links, Manifest, Media, Offer, Refusal, Track
from .clients import ALIKE, TRAITS, Traits
from .heavy import expanded_tracks
from .kinds import Kind, kind_of
from .media import IN_TRANSPORT, mime_of, seconds_of
from .player import Player
from .switches import Switchboard
from .table import BEHAVIOURS

_ITAGS: Final = {"audio/webm": 251, "audio/mp4": 140, "audio/mpeg": 141, "video/mp4": 18}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    identifier: str
    kind: Kind
    number: int
    behaviour: Behaviour
    client: Client
    traits: Traits
    links: Links
    extraction: int
    player: Player
    generation: int
    is_heavy: bool
    is_by_client: bool
    refusal: Refusal | None

    @property
    def seconds(self) -> int:
        """The video's announced length."""
        behaviour = self.behaviour
        return seconds_of(behaviour.media) if behaviour.seconds is None else behaviour.seconds

    @property
    def track_seconds(self) -> int:
        return self.seconds if self.behaviour.track_seconds is None else self.behaviour.track_seconds

    @property
    def tracks(self) -> tuple[Track, ...]:
        return tracks_of(self.identifier, is_heavy=self.is_heavy)

    @property
    def manifest(self) -> Manifest:
        """The kind's own; else HLS for a client that gets it also for recordings."""
        if self.behaviour.manifest is not Manifest.NONE or not self.traits.has_hls:
            return self.behaviour.manifest
        has_sound = self.behaviour.offer in {Offer.AUDIO, Offer.UNANNOUNCED_SIZE}
        return Manifest.HLS if has_sound and self.seconds in IN_TRANSPORT else Manifest.NONE

    @property
    def has_storyboards(self) -> bool:
        """A light answer of an ordinary kind is kept short."""
        return self.is_by_client or self.is_heavy or bool(self.behaviour.links) or self.links is Links.SABR


def tracks_of(identifier: str, *, is_heavy: bool) -> tuple[Track, ...]:
    """Return the audio formats that a video offers, to every client that gets links."""
    kind, number = kind_of(identifier)
    behaviour = BEHAVIOURS[kind]
    if behaviour.tracks:
        return behaviour.tracks
    if behaviour.offer is Offer.MANIFEST_ONLY:
        return ()
    track = Track(itag=_ITAGS[mime_of(behaviour.media).partition(";")[0]], media=behaviour.media)
    if is_heavy and behaviour.offer is Offer.AUDIO:
        return expanded_tracks(track, number)
    return (track,)


def media_named(identifier: str, itag: str | None, tags: str, *, is_heavy: bool) -> Media | None:
    """Return the body that a link's itag and `xtags` name; None for a picture, which the fake does not have."""
    if itag is None:
        return BEHAVIOURS[kind_of(identifier)[0]].media
    for track in tracks_of(identifier, is_heavy=is_heavy):
        if str(track.itag) == itag and track.tags == tags:
            return track.media
    return None


def asked_for(
    identifier: str,
    client: Client,
    *,
    extraction: int,
    switchboard: Switchboard,
    is_heavy: bool,
    refusal: Refusal | None = None,
    player: Player | None = None,
) -> Asked:
    """Put together the kind's behaviour, the client's traits and the switches.

    `refusal` goes before the kind's own; `player` is the script that the client says it has.
    """
    kind, number = kind_of(identifier)
    behaviour = BEHAVIOURS[kind]
    switches = switchboard.current
    is_by_client = behaviour.by_client or switches.clients == "real"
    traits = TRAITS[client] if is_by_client else ALIKE
    links = behaviour.links.get(client, traits.links)
    if switchboard.is_sabr_only(client):
        links = Links.SABR
    if player is None or behaviour.player is not None:
        names = switches.players
        player = Player.named(behaviour.player or names[(number + max(extraction, 1) - 1) % len(names)])
    return Asked(
        identifier=identifier,
        kind=kind,
        number=number,
        behaviour=behaviour,
        client=client,
        traits=traits,
        links=links,
        extraction=extraction,
        player=player,
        generation=switchboard.generation,
        is_heavy=is_heavy,
        is_by_client=is_by_client,
        refusal=refusal or _refusal(behaviour, client, extraction, traits, switchboard),
    )


_LOGIN: Final = Refusal(status="LOGIN_REQUIRED", reason="Please sign in")


def _refusal(
    behaviour: Behaviour, client: Client, extraction: int, traits: Traits, switchboard: Switchboard
) -> Refusal | None:
    switched = switchboard.refusing_kind(client)
    if switched is not None:
        return BEHAVIOURS[switched].refusal
    if traits.needs_login:
        return _LOGIN
    refusal = behaviour.refusal
    if refusal is None or client not in behaviour.refused_clients or (refusal.only_first and extraction > 1):
        return None
    return refusal
