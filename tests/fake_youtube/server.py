"""The web server that answers as YouTube: page, player API, thumbnails and player script."""

import asyncio
import dataclasses
import json
import time
from collections.abc import Iterator
from typing import Any, Final

from aiohttp import web

from . import pages, playlists
from .asked import Asked, asked_for
from .behaviour import Behaviour, Client, Extraction, Media, Refusal, Thumbnail
from .clients import client_named
from .counting import Tallies
from .delivery import reset_connection
from .kinds import Kind, kind_of
from .limits import LimitKeeper
from .media import Library
from .pace import Pace
from .player import Player, script_of
from .responses import endless_json, player_response
from .switches import Outage, Switchboard
from .table import BEHAVIOURS

_PICTURE_SIZES: Final = {"maxresdefault": "1280x720", "hq720": "1280x720", "sddefault": "640x480"}
_SMALL_PICTURE: Final = "480x360"
_BODY_BYTES: Final = 1 << 20
# Longer than any client waits; a hang ends with the client's connection or the server's stop.
FOR_EVER_SECONDS: Final = 3600.0
HUGE_ANSWER_BYTES: Final = 200_000_000
BOMB_BYTES: Final = 2**30
_VISITOR_COOKIE: Final = "VISITOR_INFO1_LIVE"
_SORRY: Final = "https://www.google.com/sorry/index?continue=https://www.youtube.com/"
_CONFIG_HOSTS: Final = {"m.youtube.com": Client.MWEB, "music.youtube.com": Client.WEB_MUSIC}
LOGIN_COOKIE: Final = "LOGIN_INFO"
RENEWED_COOKIE: Final = "__Secure-1PSIDTS"
_YEAR_SECONDS: Final = 365 * 86_400
_OF_GUESTS: Final = (BEHAVIOURS[Kind.AGE].refusal, BEHAVIOURS[Kind.BOT_CHECK].refusal)
"""What only guests are refused."""
_OF_LIMIT: Final = {"rate_limited": Kind.RATE_LIMITED, "bot_check": Kind.BOT_CHECK}


def _json(status: int, message: str, reason: str) -> web.Response:
    error = {"code": status, "message": message, "status": reason}
    return web.json_response({"error": error}, status=status)


def _hindered(behaviour: Behaviour, *, is_page: bool) -> web.Response | None:
    """Return the answer of a page or of the API that fails before it looks at the video."""
    match behaviour.extraction:
        case Extraction.TOO_MANY:
            return web.Response(status=429, text="Too Many Requests")
        case Extraction.BROKEN:
            return web.Response(status=500, text="Internal Server Error")
        case Extraction.SORRY:
            return _sorry_redirect()
        case _:
            return _hindered_page(behaviour) if is_page else _hindered_api(behaviour)


def _hindered_page(behaviour: Behaviour) -> web.Response | None:
    match behaviour.extraction:
        case Extraction.PAGE_TOO_MANY:
            return web.Response(status=429, text="Too Many Requests")
        case Extraction.SORRY_PAGE:
            return _sorry_redirect()
        case _:
            return None


def _hindered_api(behaviour: Behaviour) -> web.Response | None:
    match behaviour.extraction:
        case Extraction.API_FORBIDDEN:
            return _json(403, "The caller does not have permission", "PERMISSION_DENIED")
        case Extraction.API_PRECONDITION:
            return _json(400, "Precondition check failed.", "FAILED_PRECONDITION")
        case Extraction.API_QUOTA:
            return _json(429, "Resource has been exhausted (e.g. check quota).", "RESOURCE_EXHAUSTED")
        case _:
            return None


def _sorry_redirect() -> web.Response:
    """Send the client to Google's captcha page, as YouTube does with an address that asks too much."""
    return web.Response(status=302, headers={"Location": _SORRY})


def _outage(request: web.Request, outage: Outage) -> web.Response:
    if outage == "captcha":
        return _sorry_redirect()
    if outage == "reset":
        reset_connection(request)
        return web.Response()
    return web.Response(status=int(outage))


class Server:
    """Routes of all hosts but the media hosts; their paths do not overlap."""

    def __init__(
        self, *, library: Library, tallies: Tallies, pace: Pace, switchboard: Switchboard, is_heavy: bool
    ) -> None:
        self._library = library
        self._tallies = tallies
        self._pace = pace
        self._switchboard = switchboard
        self._is_heavy = is_heavy
        self._limits = LimitKeeper(time.monotonic)

    def reset(self) -> None:
        self._limits.reset()

    def add_routes(self, app: web.Application) -> None:
        app.router.add_get("/watch", self._watch)
        app.router.add_get("/playlist", playlists.page)
        app.router.add_post("/youtubei/v1/browse", playlists.browse)
        app.router.add_get("/embed/{identifier}", self._embed)
        app.router.add_get("/tv", self._television)
        app.router.add_get("/", self._home)
        app.router.add_post("/youtubei/v1/player", self._player)
        app.router.add_post("/youtubei/v1/next", self._next)
        app.router.add_get("/iframe_api", self._iframe)
        app.router.add_get("/sorry/index", self._sorry)
        app.router.add_get("/{shelf:vi|vi_webp}/{identifier}/{name}.{extension:jpg|webp}", self._thumbnail)
        app.router.add_get("/s/player/{player}/{path:.*}", self._script)

    # Pages.

    async def _watch(self, request: web.Request) -> web.Response:
        identifier = request.query.get("v", "")
        self._tallies[identifier].pages += 1
        behaviour = BEHAVIOURS[kind_of(identifier)[0]]
        self._library.begin(behaviour.media)
        visitor = request.cookies.get(_VISITOR_COOKIE) or self._tallies.new_visitor()
        refused, refusal = self._refused(request, self._switchboard.current.page, visitor, "page")
        if refused is not None:
            return refused
        if behaviour.extraction is Extraction.BOMB:
            return web.Response(body=pages.bomb(BOMB_BYTES), headers={"Content-Encoding": "gzip"})
        if (hindered := _hindered(behaviour, is_page=True)) is not None:
            return hindered
        asked = self._as_account(request, self._asked(identifier, Client.WEB, refusal))
        page, is_packed = pages.watch_page(asked, visitor)
        response = web.Response(body=page, content_type="text/html", charset="utf-8")
        if is_packed:
            response.headers["Content-Encoding"] = "gzip"
        response.set_cookie(_VISITOR_COOKIE, visitor, domain=".youtube.com", secure=True)
        if LOGIN_COOKIE in request.cookies:
            self._tallies.logged_in_pages += 1
            match self._switchboard.current.account:
                case "renewed":
                    value = f"renewed-{self._tallies.logged_in_pages}"
                    response.set_cookie(
                        RENEWED_COOKIE, value, domain=".youtube.com", max_age=_YEAR_SECONDS, secure=True
                    )
                case "ended":
                    response.del_cookie(LOGIN_COOKIE, domain=".youtube.com", secure=True)
                case _:
                    pass
        return response

    async def _embed(self, request: web.Request) -> web.Response:
        # Asked for by the fallbacks for age restricted videos and for those made for kids.
        asked = self._asked(request.match_info["identifier"], Client.WEB_EMBEDDED, None)
        return self._config(Client.WEB_EMBEDDED, asked.player)

    async def _television(self, request: web.Request) -> web.Response:
        return self._config(Client.TV, self._first_player())

    async def _home(self, request: web.Request) -> web.Response:
        return self._config(_CONFIG_HOSTS.get(request.host, Client.WEB), self._first_player())

    def _first_player(self) -> Player:
        return Player.named(self._switchboard.current.players[0])

    def _config(self, client: Client, player: Player) -> web.Response:
        body = pages.config_page(client, player, self._tallies.new_visitor())
        return web.Response(body=body, content_type="text/html", charset="utf-8")

    async def _sorry(self, request: web.Request) -> web.Response:
        self._tallies.captcha_pages += 1
        text = "<title>Sorry...</title>Our systems have detected unusual traffic from your computer network."
        return web.Response(status=429, text=text, content_type="text/html")

    # The API.

    async def _next(self, request: web.Request) -> web.Response:
        # Asked for when the page could not be had.
        identifier = str(json.loads(await request.read())["videoId"])
        visitor = self._visitor_of(request)
        refused, _ = self._refused(request, self._switchboard.current.api, visitor, "next")
        hindered = refused or _hindered(BEHAVIOURS[kind_of(identifier)[0]], is_page=False)
        return hindered or web.json_response(pages.initial_data(self._asked(identifier, Client.WEB, None)))

    async def _player(self, request: web.Request) -> web.StreamResponse:
        query = json.loads(await request.read())
        identifier = str(query["videoId"])
        client = client_named(str(query["context"]["client"]["clientName"]))
        tally = self._tallies[identifier]
        tally.players[client.value] += 1
        behaviour = BEHAVIOURS[kind_of(identifier)[0]]
        visitor = self._visitor_of(request)
        refused, refusal = self._refused(request, self._switchboard.current.api, visitor, client.value)
        if refused is not None:
            return refused
        if (hindered := _hindered(behaviour, is_page=False)) is not None:
            return hindered
        match behaviour.extraction:
            case Extraction.HANGS:
                await asyncio.sleep(FOR_EVER_SECONDS)
            case Extraction.DELAYED:
                await asyncio.sleep(self._pace.delay_seconds)
            case Extraction.HUGE:
                return await self._send(request, endless_json(HUGE_ANSWER_BYTES))
            case Extraction.GARBLED:
                return web.Response(text="<html>Sorry", content_type="text/html")
            case _:
                pass
        asked = self._as_account(request, self._asked(identifier, client, refusal, player=_player_of(query)))
        sizes = {track.media: len(await self._library.media(track.media)) for track in asked.tracks}
        response = player_response(asked, sizes=sizes, now=time.time(), visitor=visitor)
        return web.Response(body=response, content_type="application/json", charset="utf-8")

    def _as_account(self, request: web.Request, asked: Asked) -> Asked:
        """Serve an account that is logged in what guests are refused."""
        is_logged_in = LOGIN_COOKIE in request.cookies and self._switchboard.current.account != "ended"
        return dataclasses.replace(asked, refusal=None) if is_logged_in and asked.refusal in _OF_GUESTS else asked

    def _visitor_of(self, request: web.Request) -> str:
        """Return the guest session that an API request names, else a new one."""
        return request.headers.get("X-Goog-Visitor-Id") or self._tallies.new_visitor()

    def _asked(self, identifier: str, client: Client, refusal: Refusal | None, player: Player | None = None) -> Asked:
        return asked_for(
            identifier,
            client,
            extraction=self._tallies[identifier].extractions,
            switchboard=self._switchboard,
            is_heavy=self._is_heavy,
            refusal=refusal,
            player=player,
        )

    def _refused(
        self, request: web.Request, outage: Outage, visitor: str, asked: str
    ) -> tuple[web.Response | None, Refusal | None]:
        """Return what the switches make of a request: an answer of their own, or a refusal to put in the usual one."""
        if outage != "no":
            return _outage(request, outage), None
        limit = self._switchboard.current.limit
        address = self._tallies.address_of(request)
        if not self._limits.is_spent(limit, visitor=visitor, address=address, request=asked) or limit is None:
            return None, None
        if limit.answer in _OF_LIMIT:
            return None, BEHAVIOURS[_OF_LIMIT[limit.answer]].refusal
        return _outage(request, "captcha" if limit.answer == "captcha" else "429"), None

    async def _send(self, request: web.Request, pieces: Iterator[bytes]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
        await response.write_eof()
        return response

    # Pictures and scripts.

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

    async def _iframe(self, request: web.Request) -> web.Response:
        # Where the player script's address is looked for when the page could not be had.
        text = f"var player='\\/s\\/player\\/{self._first_player().identifier}\\/';"
        return web.Response(text=text, content_type="text/javascript")

    async def _script(self, request: web.Request) -> web.Response:
        self._tallies.player_scripts += 1
        try:
            player = Player.identified(request.match_info["player"])
        except (ValueError, IndexError):
            return web.Response(status=404)
        script = script_of(player, is_heavy=self._is_heavy)
        response = web.Response(body=script.packed, content_type="text/javascript")
        response.headers["Content-Encoding"] = "gzip"
        return response


def _player_of(query: dict[str, Any]) -> Player | None:
    """Return the player script that a client says it has: YouTube scrambles the links for that one."""
    playback = query.get("playbackContext", {}).get("contentPlaybackContext", {})
    timestamp = playback.get("signatureTimestamp")
    try:
        return None if timestamp is None else Player.stamped(int(timestamp))
    except (ValueError, IndexError):
        return None
