"""Answers as googlevideo: media by range, HLS and DASH manifests and their segments."""

import asyncio
import time
from collections.abc import Mapping
from typing import Final

from aiohttp import web

from . import manifests
from .asked import media_named
from .behaviour import Behaviour, Client, Delivery, Media
from .clients import ALIKE, TRAITS, client_named
from .counting import Tallies
from .delivery import Sender, asked_span, reset_connection
from .formats import HUGE_BYTES
from .kinds import kind_of
from .links import MEDIA_HOST, OTHER_MEDIA_HOST, is_manifest_solved, is_solved, parts_of
from .media import IN_TRANSPORT, Library, seconds_of
from .pace import Pace
from .switches import Switchboard
from .table import BEHAVIOURS

REDIRECTS: Final = 50
SHARE_OF_LINK: Final = 0.35
SMALL_RANGE_BYTES: Final = 1 << 20
BUSY_REQUESTS: Final = 2
_NO_LIMIT: Final = 1 << 62


class MediaServer:
    """`is_heavy` must be that of the answers: it decides which formats a video has."""

    def __init__(
        self, *, library: Library, tallies: Tallies, pace: Pace, switchboard: Switchboard, is_heavy: bool
    ) -> None:
        self._library = library
        self._tallies = tallies
        self._pace = pace
        self._switchboard = switchboard
        self._is_heavy = is_heavy
        # Known once the control server listens: where the loopback redirect leads.
        self.trap_url = ""

    def add_routes(self, app: web.Application) -> None:
        app.router.add_get("/videoplayback", self._media)
        app.router.add_get("/videoplayback/{path:.*}", self._segment)
        app.router.add_get("/api/manifest/hls_variant/{path:.*}", self._hls_variant)
        app.router.add_get("/api/manifest/hls_playlist/{path:.*}", self._hls_playlist)
        app.router.add_get("/api/manifest/dash/{path:.*}", self._dash)

    async def _media(self, request: web.Request) -> web.StreamResponse:
        link = dict(request.query)
        identifier = link.get("id", "")
        behaviour = BEHAVIOURS[kind_of(identifier)[0]]
        tally = self._tallies[identifier]
        tally.media_requests += 1
        media = media_named(identifier, link.get("itag"), link.get("xtags", ""), is_heavy=self._is_heavy)
        if media is None:
            return web.Response(status=404)
        body = await self._library.media(Media.CLIP if behaviour.delivery is Delivery.ENDLESS else media)
        is_first = link.get("ei") == "1"
        refused = (
            self._outage(request)
            or self._refused_link(request, link, behaviour, len(body))
            or self._refused_by_kind(request, link, behaviour)
        )
        if refused is not None:
            return refused
        client, extraction = client_named(link.get("c", "")), link.get("ei", "")

        def sent(count: int) -> None:
            tally.media_bytes += count
            tally.bytes_by_link[extraction] += count

        def allowance(offset: int) -> int:
            """Return how many bytes may be sent from an offset on; called before each write."""
            if self._is_expired(link):
                return 0
            limits = [self._refused_from(client, behaviour, len(body)) - offset]
            if behaviour.delivery is Delivery.FORBIDDEN_AFTER_PART:
                limits.append(self._share(len(body)) - tally.bytes_by_link[extraction])
            return min(limits)

        delivery = behaviour.delivery
        if delivery is Delivery.CUT_ONCE and is_first:
            delivery = Delivery.CUT
        if delivery is Delivery.CUT_WHOLE and not is_first:
            delivery = Delivery.WHOLE
        if delivery is Delivery.LATE:
            await asyncio.sleep(self._pace.delay_seconds)
        sender = Sender(
            request,
            delivery=delivery,
            media=media,
            bytes_per_second=self._pace.slow_bytes_per_second,
            allowance=allowance,
            is_hurried=lambda: self._switchboard.current.hurried,
            on_sent=sent,
        )
        return await sender.send(body)

    def _is_expired(self, link: Mapping[str, str]) -> bool:
        return int(link.get("xg", "0")) < self._switchboard.generation

    @staticmethod
    def _share(body_bytes: int) -> int:
        return int(body_bytes * SHARE_OF_LINK)

    def _refused_from(self, client: Client, behaviour: Behaviour, body_bytes: int) -> int:
        """Return the offset from which a client's media are refused."""
        refused = [_NO_LIMIT]
        switched = self._switchboard.refused_from(client)
        if switched is not None:
            refused.append(switched)
        if client in behaviour.forbidden_clients:
            refused.append(int(body_bytes * behaviour.forbidden_from))
        return min(refused)

    def _outage(self, request: web.Request) -> web.Response | None:
        """Return the answer while the switch `media` is on."""
        outage = self._switchboard.current.media
        if outage == "no":
            return None
        if outage == "reset":
            reset_connection(request)
        return web.Response(status=int(outage) if outage.isdigit() else 403)

    def _refused_link(
        self, request: web.Request, link: Mapping[str, str], behaviour: Behaviour, body_bytes: int
    ) -> web.Response | None:
        """Return the answer to a link that is not, not yet or no longer good."""
        client = client_named(link.get("c", ""))
        is_by_client = behaviour.by_client or self._switchboard.current.clients == "real"
        traits = TRAITS[client] if is_by_client and "c" in link else ALIKE
        share = self._share(body_bytes) if behaviour.delivery is Delivery.FORBIDDEN_AFTER_PART else _NO_LIMIT
        size = HUGE_BYTES if behaviour.delivery is Delivery.HUGE else body_bytes
        reasons = (
            self._is_expired(link),
            not is_solved(link),
            traits.is_refused,
            traits.needs_token and not link.get("pot"),
            float(link.get("xa", "0")) > time.time(),
            self._tallies[link.get("id", "")].bytes_by_link[link.get("ei", "")] >= share,
            asked_span(request, size).start >= self._refused_from(client, behaviour, body_bytes),
        )
        return web.Response(status=403) if any(reasons) else None

    def _refused_by_kind(
        self, request: web.Request, link: Mapping[str, str], behaviour: Behaviour
    ) -> web.Response | None:
        """Return the refusal or redirect that the kind of video prescribes for this request, if any."""
        is_first = link.get("ei") == "1"
        tally = self._tallies[link.get("id", "")]
        span = asked_span(request, _NO_LIMIT)
        answer: tuple[int, dict[str, str]] | None = None
        match behaviour.delivery:
            case Delivery.FORBIDDEN:
                answer = 403, {}
            case Delivery.FORBIDDEN_ONCE if is_first:
                answer = 403, {}
            case Delivery.CUT_ONCE if is_first and tally.media_requests > 1:
                answer = 403, {}
            case Delivery.SMALL_RANGES if span.end - span.start > SMALL_RANGE_BYTES:
                answer = 403, {}
            case Delivery.BOUNDED_RANGES if not span.is_bounded:
                answer = 403, {}
            case Delivery.EMPTY_ONCE if is_first:
                answer = 200, {}
            case Delivery.TOO_MANY:
                answer = 429, {"Retry-After": "30"}
            case Delivery.BROKEN:
                answer = 500, {}
            case Delivery.BUSY_TWICE if tally.media_requests <= BUSY_REQUESTS:
                answer = 503, {}
            case Delivery.RESET_ONCE if tally.media_requests == 1:
                reset_connection(request)
                answer = 500, {}
            case _:
                answer = self._redirect(request, link, behaviour.delivery)
        return None if answer is None else web.Response(status=answer[0], headers=answer[1])

    def _redirect(
        self, request: web.Request, link: Mapping[str, str], delivery: Delivery
    ) -> tuple[int, dict[str, str]] | None:
        target: str | None = None
        match delivery:
            case Delivery.TO_METADATA:
                target = "http://169.254.169.254/latest/meta-data/"
            case Delivery.TO_LOOPBACK:
                target = self.trap_url
            case Delivery.TO_ITSELF:
                target = f"https://{MEDIA_HOST}{request.raw_path}"
            case Delivery.TO_FILE:
                target = "file:///etc/passwd"
            case Delivery.TO_CHAIN if (hop := int(link.get("hop", "0"))) < REDIRECTS:
                target = str(request.rel_url.update_query(hop=str(hop + 1)))
            case Delivery.TO_ANOTHER_HOST if "redirect_counter" not in link:
                moved = request.rel_url.update_query(redirect_counter="1", cm2rm="sn-fake-other", cms_redirect="yes")
                target = f"https://{OTHER_MEDIA_HOST}{moved}"
            case _:
                pass
        return None if target is None else (302, {"Location": target})

    # Manifests and their segments.

    async def _segments(self, link: Mapping[str, str]) -> list[bytes]:
        """Return the segments of the format that a manifest's or segment's link names."""
        behaviour = BEHAVIOURS[kind_of(link.get("id", ""))[0]]
        if link.get("itag") == str(manifests.DASH_ITAG):
            return manifests.fragment_segments(await self._library.media(behaviour.media))
        if "packed" in link:
            return manifests.packed_segments(await self._library.media(Media.ADTS))
        seconds = self._seconds(behaviour)
        body = await self._library.media(IN_TRANSPORT[seconds])
        return manifests.transport_segments(body, seconds)

    @staticmethod
    def _seconds(behaviour: Behaviour) -> int:
        return behaviour.seconds or seconds_of(behaviour.media)

    async def _hls_variant(self, request: web.Request) -> web.Response:
        link = parts_of(request.match_info["path"].removesuffix("/file/index.m3u8"))
        if not is_manifest_solved(link):
            return web.Response(status=403)
        # The formats' own lists carry no challenge any more.
        inner = {name: value for name, value in link.items() if name not in {"n", "xs"}}
        body = manifests.live_variant(inner) if "live" in link else manifests.hls_variant(inner)
        return web.Response(body=body, content_type="application/vnd.apple.mpegurl")

    async def _hls_playlist(self, request: web.Request) -> web.Response:
        link = parts_of(request.match_info["path"].removesuffix("/playlist/index.m3u8"))
        if int(link.get("itag", "0")) not in manifests.HLS_AUDIO_ITAGS:
            return web.Response(status=404)
        segments = await self._segments(link)
        seconds = self._seconds(BEHAVIOURS[kind_of(link["id"])[0]])
        body = manifests.hls_playlist(link, len(segments), seconds)
        return web.Response(body=body, content_type="application/vnd.apple.mpegurl")

    async def _dash(self, request: web.Request) -> web.Response:
        link = parts_of(request.match_info["path"])
        segments = await self._segments({**link, "itag": str(manifests.DASH_ITAG)})
        seconds = self._seconds(BEHAVIOURS[kind_of(link["id"])[0]])
        body = manifests.dash_manifest(link, len(segments) - 1, seconds)
        return web.Response(body=body, content_type="application/dash+xml")

    async def _segment(self, request: web.Request) -> web.Response:
        link = parts_of(request.match_info["path"].removesuffix("/file/seg.ts"))
        behaviour = BEHAVIOURS[kind_of(link.get("id", ""))[0]]
        tally = self._tallies[link.get("id", "")]
        tally.media_requests += 1
        if (refused := self._outage(request)) is not None:
            return refused
        segments = await self._segments(link)
        number = int(link.get("sq", "-1"))
        if not 0 <= number < len(segments):
            return web.Response(status=404)
        offset = sum(map(len, segments[:number]))
        refused_from = self._refused_from(client_named(link.get("c", "")), behaviour, sum(map(len, segments)))
        if self._is_expired(link) or offset >= refused_from or float(link.get("xa", "0")) > time.time():
            return web.Response(status=403)
        body = segments[number]
        tally.media_bytes += len(body)
        return web.Response(body=body, content_type="video/mp2t")
