"""The routes of the page: the page itself, its form, signing in and out, and its files."""

import contextlib
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from msgspec import structs

from ytmp3.core.errors import JobUnknown, RequestError
from ytmp3.core.recipe import DEFAULT_QUALITY, Format, has_quality, parse_format, parse_quality
from ytmp3.engine.intake import Intake
from ytmp3.engine.jobs import Jobs
from ytmp3.http import headers
from ytmp3.http.addresses import Addresses
from ytmp3.http.admission import CLIENT, Admission, owner_in
from ytmp3.http.body import answer_expectation, extract_request, read_body
from ytmp3.http.errors import BadRequest, InvalidField, NotFound, Unauthorized, UnsupportedMediaType
from ytmp3.http.keys import Keys, find_key
from ytmp3.http.page.files import PageFiles
from ytmp3.http.page.markup import Markup, Shown
from ytmp3.http.page.sessions import Sessions, is_from_own_page
from ytmp3.http.view import job_view
from ytmp3.http.webhook_targets import WebhookTargets
from ytmp3.http.wire import JobView

MAX_FORM_BYTES: Final = 32_768
"""Largest form, in bytes: room for MAX_FORM_LINKS long links."""
MAX_FORM_FIELDS: Final = 16
"""Most fields of a form. The page's largest form has fewer."""
MAX_FORM_LINKS: Final = 50
"""Most links of a form that is sent without scripts, and most jobs that the page shows without scripts. With scripts,
the page submits and reads each job with a request of its own."""
_SHARED: Final = ("url", "text", "title")
"""Parameters of a shared link. The YouTube app puts its link into `text`, not into `url`."""
_LINK: Final = re.compile(r"\S*youtu\S*", re.IGNORECASE)
_FORM: Final = "application/x-www-form-urlencoded"


class PageHandlers:
    """Serves the page. `sessions` is None where the service uses no API keys; `base` is its public path."""

    def __init__(
        self,
        *,
        intake: Intake,
        jobs: Jobs,
        webhooks: WebhookTargets,
        keys: Keys,
        addresses: Addresses,
        sessions: Sessions | None,
        base: str,
    ) -> None:
        self._intake = intake
        self._webhooks = webhooks
        self._jobs = jobs
        self._keys = keys
        self._addresses = addresses
        self._sessions = sessions
        self._headers = headers.page(addresses.download_origin)
        self._home = f"{base}/"
        self._files = PageFiles()
        self._markup = Markup(self._files, base=base)

    def add_routes(self, router: web.UrlDispatcher, admission: Admission) -> None:
        """Bind the routes. They are not part of the API, so the OpenAPI document does not have them."""
        index = self._as_page(self._if_signed_in(admission.guard(self.index)))
        convert = self._as_page(self._if_signed_in(admission.guard(self.convert)))
        bindings: tuple[tuple[str, str, Handler], ...] = (
            (hdrs.METH_GET, "/", index),
            (hdrs.METH_GET, "/share", index),
            (hdrs.METH_POST, "/convert", convert),
            (hdrs.METH_POST, "/sign-in", self._as_page(self.sign_in)),
            (hdrs.METH_POST, "/sign-out", self._as_page(self.sign_out)),
            (hdrs.METH_GET, "/docs", self.reference),
            (hdrs.METH_GET, "/manifest.webmanifest", self.manifest),
            (hdrs.METH_GET, "/page/{folder:[^/]+}/{name:[^/]+}", self.file),
        )
        for method, pattern, handler in bindings:
            for one in (hdrs.METH_GET, hdrs.METH_HEAD) if method == hdrs.METH_GET else (method,):
                router.add_route(one, pattern, handler, expect_handler=answer_expectation)

    async def index(self, request: web.Request) -> web.StreamResponse:
        """GET / and GET /share: the page, with the jobs that the address names, or with a shared link in the form.

        A shared link only fills the form, because any page on the web can open this address.
        """
        query = request.query
        ids = query.get("jobs", "").split(",")[:MAX_FORM_LINKS]
        jobs = [job for job_id in ids if job_id and (job := await self._job(job_id, request)) is not None]
        shared = (query.get(name, "") for name in _SHARED)
        links = next((match[0] for text in shared if (match := _LINK.search(text))), "")
        return self._page(request, Shown(links=links, jobs=jobs))

    async def convert(self, request: web.Request) -> web.StreamResponse:
        """POST /convert: the form, sent by a browser without scripts. Answers with a page that shows its jobs."""
        fields = await self._form(request)
        text = fields.get("links", "")
        quality = parse_quality(fields.get("quality", DEFAULT_QUALITY))
        format_ = parse_format(fields.get("format", Format.MP3))
        links = text.split()
        if not links or len(links) > MAX_FORM_LINKS:
            return self._refuse(request, InvalidField(f"Enter 1 to {MAX_FORM_LINKS} links, one per line."), links=text)
        if quality is None or format_ is None:
            return self._refuse(request, InvalidField("Choose one of the formats and qualities."), links=text)
        wanted = _wanted(fields) | {"format": format_} | ({"quality": quality} if has_quality(format_) else {})
        if len(links) > 1 and fields.get("title", "").strip():
            return self._refuse(request, InvalidField("A title can be chosen for one link only."), links=text)
        client, ids = request[CLIENT], list[str]()
        for position, link in enumerate(links):
            try:
                body, webhooks = extract_request({"url": link, **wanted}), self._webhooks.of(client)
                ticket = await self._intake.submit(link, body.recipe, client, webhooks=webhooks, edits=body.edits)
            except RequestError as error:
                # The links before this one are jobs already; the others stay in the form.
                rest = "\n".join(links[position:])
                views = [view for job_id in ids if (view := await self._job(job_id, request)) is not None]
                return self._refuse(request, error, links=rest, jobs=views)
            ids.append(ticket.job.job_id)
        return self._see_other(f"{self._home}?jobs={','.join(ids)}")

    async def sign_in(self, request: web.Request) -> web.StreamResponse:
        """POST /sign-in: exchange an API key for a session."""
        secret = (await self._form(request)).get("key", "").strip()
        if self._sessions is None:
            return self._see_other(self._home)
        key = find_key(self._keys.keys or (), secret)
        if key is None:
            return self._refuse(request, Unauthorized("This is no valid key. Keys begin with ytmp3_."))
        response = self._see_other(self._home)
        self._sessions.start(request, response, key, self._home)
        return response

    async def sign_out(self, request: web.Request) -> web.StreamResponse:
        """POST /sign-out: end the session in this browser."""
        await self._form(request)
        response = self._see_other(self._home)
        if self._sessions is not None:
            self._sessions.end(response, self._home)
        return response

    async def reference(self, _: web.Request) -> web.StreamResponse:
        """GET /docs: the API reference, which needs no scripts."""
        return web.Response(body=self._markup.reference.encode(), headers=self._headers)

    async def manifest(self, _: web.Request) -> web.StreamResponse:
        """GET /manifest.webmanifest: what a browser needs to install the page as an app."""
        return web.Response(body=self._markup.manifest.encode(), headers=headers.MANIFEST)

    async def file(self, request: web.Request) -> web.StreamResponse:
        """GET /page/HASH/NAME: a style sheet, a script or an image."""
        found = self._files.find(request.match_info["folder"], request.match_info["name"])
        if found is None:
            raise NotFound
        more: dict[str, str] = {hdrs.CONTENT_TYPE: found.media_type, hdrs.VARY: hdrs.ACCEPT_ENCODING}
        if "gzip" not in request.headers.get(hdrs.ACCEPT_ENCODING, ""):
            return web.Response(body=found.body, headers=headers.extended(headers.PAGE_FILE, more))
        more[hdrs.CONTENT_ENCODING] = "gzip"
        return web.Response(body=found.gzipped, headers=headers.extended(headers.PAGE_FILE, more))

    def _if_signed_in(self, handler: Handler) -> Handler:
        """Show the form for signing in, if the service uses API keys and the visitor has no session."""

        async def checked(request: web.Request) -> web.StreamResponse:
            if self._must_sign_in(request):
                return self._page(request, Shown(must_sign_in=True))
            return await handler(request)

        return checked

    def _as_page(self, handler: Handler) -> Handler:
        """Show errors as a page instead of a problem document."""

        async def shown(request: web.Request) -> web.StreamResponse:
            try:
                return await handler(request)
            except RequestError as error:
                return self._refuse(request, error)

        return shown

    async def _form(self, request: web.Request) -> dict[str, str]:
        """Read a form. Each field must occur once.

        Raises:
            BadRequest: the form was sent by another site's page, or is malformed.
            UnsupportedMediaType, BodyTooLarge, RequestTimeout
        """
        if request.content_type != _FORM:
            raise UnsupportedMediaType("Send the form of the page, or use POST /extract with a JSON body.")
        if not is_from_own_page(request):
            raise BadRequest("This form was sent by a page of another site.")
        body = await read_body(request, max_bytes=MAX_FORM_BYTES)
        try:
            fields = parse_qs(body.decode("utf-8"), keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS)
        except ValueError:
            raise BadRequest("The form is malformed.") from None
        return {name: values[0] for name, values in fields.items() if len(values) == 1}

    async def _job(self, job_id: str, request: web.Request) -> JobView | None:
        """Return a job as the page shows it; None if the visitor has no such job."""
        owner = owner_in(request, self._keys)
        with contextlib.suppress(JobUnknown):
            ticket = await self._jobs.ticket(job_id, owner)
            return job_view(ticket, self._jobs.live(ticket), self._addresses)
        return None

    def _page(
        self, request: web.Request, shown: Shown, status: HTTPStatus = HTTPStatus.OK, retry_after: int | None = None
    ) -> web.Response:
        key = None if self._sessions is None else self._sessions.key_of(request)
        html = self._markup.page(structs.replace(shown, owner=None if key is None else key.name))
        more: dict[str, str] = {} if retry_after is None else {hdrs.RETRY_AFTER: str(max(1, retry_after))}
        return web.Response(body=html.encode(), status=status, headers=headers.extended(self._headers, more))

    def _refuse(
        self, request: web.Request, error: RequestError, links: str = "", jobs: Sequence[JobView] = ()
    ) -> web.Response:
        """Return the page with the reason why a request was refused."""
        must_sign_in = self._must_sign_in(request)
        shown = Shown(notice=error.public_detail, links=links, jobs=jobs, must_sign_in=must_sign_in)
        return self._page(request, shown, error.status, error.retry_after_seconds)

    def _must_sign_in(self, request: web.Request) -> bool:
        return self._keys.are_required and (self._sessions is None or self._sessions.key_of(request) is None)

    def _see_other(self, address: str) -> web.Response:
        """Return a redirect after a form, so that loading the page again does not send the form again."""
        more: dict[str, str] = {hdrs.LOCATION: address}
        return web.Response(status=HTTPStatus.SEE_OTHER, headers=headers.extended(headers.EMPTY, more))


def _wanted(fields: Mapping[str, str]) -> dict[str, object]:
    """Return the optional fields of a request that a form has. Empty ones do not count."""
    given = {name: text for name, value in fields.items() if (text := value.strip())}
    tags: dict[str, object] = {name: given[name] for name in ("title", "artist", "album") if name in given}
    if given.get("cover") == "no":
        tags["cover"] = False
    optional = ("start", "end", "language", "loudness")
    wanted: dict[str, object] = {name: given[name] for name in optional if name in given}
    return wanted | ({"metadata": tags} if tags else {})
