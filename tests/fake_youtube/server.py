"""The web server that answers as YouTube: page, player API, thumbnails, playlist and player script."""

import asyncio
import dataclasses
import json
from collections.abc import Iterator
from typing import Final

from aiohttp import web

from . import answers, playerjs
from .counting import Tallies
from .delivery import deliver
from .kinds import BEHAVIOURS, Behaviour, Delivery, Extraction, Media, Thumbnail, kind_of
from .media import Library

_PICTURE_SIZES: Final = {"maxresdefault": "1280x720", "hq720": "1280x720", "sddefault": "640x480"}
_SMALL_PICTURE: Final = "480x360"
_BODY_BYTES: Final = 1 << 20
# Longer than any client waits; a hang ends with the client's connection or the server's stop.
FOR_EVER_SECONDS: Final = 3600.0
HUGE_ANSWER_BYTES: Final = 200_000_000
BOMB_BYTES: Final = 2**30
REDIRECTS: Final = 50


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How slow the slow kinds are."""

    slow_bytes_per_second: int = 100_000
    delay_seconds: float = 3.0


def _hindered(behaviour: Behaviour) -> web.Response | None:
    match behaviour.extraction:
        case Extraction.TOO_MANY:
            return web.Response(status=429, text="Too Many Requests")
        case Extraction.BROKEN:
            return web.Response(status=500, text="Internal Server Error")
        case _:
            return None


class Server:
    """Routes of all hosts in one application: their paths do not overlap."""

    def __init__(self, *, library: Library, tallies: Tallies, pace: Pace) -> None:
        self._library = library
        self._tallies = tallies
        self._pace = pace
        # Known once the control server listens: where the loopback redirect leads.
        self.trap_url = ""

    def application(self) -> web.Application:
        app = web.Application(client_max_size=_BODY_BYTES)
        app.router.add_get("/watch", self._watch)
        app.router.add_get("/embed/{identifier}", self._embed)
        app.router.add_post("/youtubei/v1/player", self._player)
        app.router.add_post("/youtubei/v1/next", self._next)
        app.router.add_get("/iframe_api", self._iframe)
        app.router.add_get("/videoplayback", self._media)
        app.router.add_get("/{shelf:vi|vi_webp}/{identifier}/{name}.{extension:jpg|webp}", self._thumbnail)
        app.router.add_get("/api/manifest/hls_variant/id/{identifier}/index.m3u8", self._playlist)
        app.router.add_get("/s/player/{path:.*}", self._script)
        return app

    async def _watch(self, request: web.Request) -> web.Response:
        identifier = request.query.get("v", "")
        self._tallies[identifier].pages += 1
        behaviour = BEHAVIOURS[kind_of(identifier)[0]]
        self._library.begin(behaviour.media)
        if behaviour.extraction is Extraction.BOMB:
            return web.Response(body=answers.bomb(BOMB_BYTES), headers={"Content-Encoding": "gzip"})
        page = answers.watch_page(identifier)
        return _hindered(behaviour) or web.Response(body=page, content_type="text/html", charset="utf-8")

    async def _embed(self, request: web.Request) -> web.Response:
        # Asked for by the fallback for age restricted videos.
        return web.Response(body=answers.embed_page(), content_type="text/html", charset="utf-8")

    async def _next(self, request: web.Request) -> web.Response:
        # Asked for when the page could not be had.
        identifier = str(json.loads(await request.read())["videoId"])
        hindered = _hindered(BEHAVIOURS[kind_of(identifier)[0]])
        return hindered or web.json_response(answers.initial(identifier))

    async def _player(self, request: web.Request) -> web.StreamResponse:
        query = json.loads(await request.read())
        identifier = str(query["videoId"])
        tally = self._tallies[identifier]
        tally.players[str(query["context"]["client"]["clientName"])] += 1
        behaviour = BEHAVIOURS[kind_of(identifier)[0]]
        if hindered := _hindered(behaviour):
            return hindered
        match behaviour.extraction:
            case Extraction.HANGS:
                await asyncio.sleep(FOR_EVER_SECONDS)
            case Extraction.DELAYED:
                await asyncio.sleep(self._pace.delay_seconds)
            case Extraction.HUGE:
                return await self._send(request, answers.endless_json(HUGE_ANSWER_BYTES))
            case Extraction.GARBLED:
                return web.Response(text="<html>Sorry", content_type="text/html")
            case _:
                pass
        body = await self._library.media(behaviour.media)
        size_bytes = answers.announced_bytes(behaviour, len(body))
        response = answers.player_response(identifier, extraction=tally.extractions, size_bytes=size_bytes)
        return web.Response(body=response, content_type="application/json", charset="utf-8")

    async def _send(self, request: web.Request, pieces: Iterator[bytes]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
        await response.write_eof()
        return response

    async def _media(self, request: web.Request) -> web.StreamResponse:
        identifier = request.query.get("id", "")
        kind, _ = kind_of(identifier)
        tally = self._tallies[identifier]
        tally.media_requests += 1

        def sent(count: int) -> None:
            tally.media_bytes += count

        behaviour = BEHAVIOURS[kind]
        first = request.query.get("ei") == "1"
        if refused := self._refused(request, behaviour):
            return refused
        body = await self._library.media(Media.CLIP if behaviour.delivery is Delivery.ENDLESS else behaviour.media)
        delivery = behaviour.delivery
        if delivery is Delivery.CUT_ONCE and first:
            delivery = Delivery.CUT
        if delivery is Delivery.CUT_WHOLE and not first:
            delivery = Delivery.WHOLE
        rate = self._pace.slow_bytes_per_second
        return await deliver(request, body, delivery=delivery, media=behaviour.media, rate=rate, sent=sent)

    def _refused(self, request: web.Request, behaviour: Behaviour) -> web.Response | None:
        """Return the answer of a media server that sends no media."""
        query = request.query
        first = query.get("ei") == "1"
        identifier = query.get("id", "")
        answer: tuple[int, dict[str, str]] | None = None
        match behaviour.delivery:
            case Delivery.FORBIDDEN:
                answer = 403, {}
            case Delivery.FORBIDDEN_ONCE if first:
                answer = 403, {}
            case Delivery.CUT_ONCE if first and self._tallies[identifier].media_requests > 1:
                answer = 403, {}
            case Delivery.SOLVED_ONLY if not answers.is_solved(identifier, query.get("sig", ""), query.get("n", "")):
                answer = 403, {}
            case Delivery.TOO_MANY:
                answer = 429, {"Retry-After": "30"}
            case Delivery.BROKEN:
                answer = 500, {}
            case Delivery.TO_METADATA:
                answer = 302, {"Location": "http://169.254.169.254/latest/meta-data/"}
            case Delivery.TO_LOOPBACK:
                answer = 302, {"Location": self.trap_url}
            case Delivery.TO_ITSELF:
                answer = 302, {"Location": f"https://{answers.MEDIA_HOST}{request.raw_path}"}
            case Delivery.TO_FILE:
                answer = 302, {"Location": "file:///etc/passwd"}
            case Delivery.TO_CHAIN if (hop := int(query.get("hop", "0"))) < REDIRECTS:
                answer = 302, {"Location": str(request.rel_url.update_query(hop=str(hop + 1)))}
            case _:
                pass
        return None if answer is None else web.Response(status=answer[0], headers=answer[1])

    async def _thumbnail(self, request: web.Request) -> web.Response:
        identifier, extension = request.match_info["identifier"], request.match_info["extension"]
        self._tallies[identifier].thumbnail_requests += 1
        match BEHAVIOURS[kind_of(identifier)[0]].thumbnail:
            case Thumbnail.MISSING | Thumbnail.UNLISTED:
                return web.Response(status=404)
            case Thumbnail.HANGS:
                await asyncio.sleep(FOR_EVER_SECONDS)
            case Thumbnail.JUNK:
                return web.Response(body=bytes(await self._library.media(Media.RANDOM)), content_type="image/jpeg")
            case _:
                pass
        size = _PICTURE_SIZES.get(request.match_info["name"], _SMALL_PICTURE)
        body = bytes(await self._library.picture(size, extension))
        return web.Response(body=body, content_type="image/webp" if extension == "webp" else "image/jpeg")

    async def _playlist(self, request: web.Request) -> web.Response:
        body = answers.live_playlist(request.match_info["identifier"])
        return web.Response(body=body, content_type="application/vnd.apple.mpegurl")

    async def _iframe(self, request: web.Request) -> web.Response:
        # Where the player script's address is looked for when the page could not be had.
        return web.Response(
            text=f"var player='\\/s\\/player\\/{playerjs.PLAYER_ID}\\/';", content_type="text/javascript"
        )

    async def _script(self, request: web.Request) -> web.Response:
        return web.Response(text=playerjs.SCRIPT, content_type="text/javascript")


def control(tallies: Tallies) -> web.Application:
    """Return the plain-HTTP application by which a test in another process asks for the counts."""

    async def all_counts(request: web.Request) -> web.Response:
        return web.json_response(tallies.everything())

    async def one_count(request: web.Request) -> web.Response:
        return web.json_response(dataclasses.asdict(tallies.counts(request.match_info["identifier"])))

    async def reset(request: web.Request) -> web.Response:
        tallies.reset()
        return web.json_response({})

    async def trap(request: web.Request) -> web.Response:
        tallies.trapped += 1
        return web.Response(text="a request came where none may come")

    app = web.Application()
    app.router.add_get("/counts", all_counts)
    app.router.add_get("/counts/{identifier}", one_count)
    app.router.add_post("/reset", reset)
    app.router.add_get("/trap", trap)
    return app
