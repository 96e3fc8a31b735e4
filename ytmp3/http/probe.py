"""The route that shows what YouTube offers for a video, without converting it."""

import msgspec
from aiohttp import web

from ytmp3.engine.descriptions import Descriptions
from ytmp3.http import headers
from ytmp3.http.admission import CLIENT
from ytmp3.http.body import parse_probe_request, read_json_body
from ytmp3.http.probe_view import probe_view


class ProbeHandlers:
    """The handler of `POST /probe`."""

    def __init__(self, descriptions: Descriptions) -> None:
        self._descriptions = descriptions

    async def probe(self, request: web.Request) -> web.Response:
        """POST /probe."""
        wanted = parse_probe_request(await read_json_body(request))
        video_id, description = await self._descriptions.of(wanted.url, request[CLIENT].owner)
        # The newline at the end keeps a shell's prompt off the line of curl's output.
        body = msgspec.json.encode(probe_view(video_id, description)) + b"\n"
        return web.Response(body=body, headers=headers.JSON)
