"""Downloads the two wheels of a release from a package index. Runs in a sandboxed child process.

The index is one of the "simple" form, as HTML (PEP 503) or JSON (PEP 691). Exactly two pure wheels are taken: that of
yt-dlp, and that of the yt-dlp-ejs that yt-dlp's own metadata name. Both must have the SHA-256 that the index gives.

A user name and a password in the URL of the index are sent to its host only, and appear in no error text.

pip is not used: the container image has none in its environment, and pip bounds neither the size of what it downloads
nor the files that it unpacks.
"""

import base64
import datetime as dt
import hashlib
import html.parser
import http.client
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

import msgspec
from msgspec import Struct, field

from ytmp3.converter.releases.messages import MAX_OFFERS, Ask, Fetch, Fetched, Offered
from ytmp3.converter.releases.wheels import Wheel, WheelError
from ytmp3.core.errors import Ytmp3Error
from ytmp3.core.release import NIGHTLY, STABLE, is_stable, newest, newest_first, normalized, pinned_solver
from ytmp3.core.rollout import Offer

MAX_PAGE_BYTES: Final = 32 * 2**20
"""Largest page of the index. yt-dlp's has 1.5 MB."""
MAX_WHEEL_BYTES: Final = 32 * 2**20
"""Largest wheel. yt-dlp's has 3.2 MB."""
TIMEOUT_SECONDS: Final = 20.0
"""Longest wait for a connection, and for each read from it. The whole task has a limit of its own (`workshop`)."""

_ACCEPT: Final = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
_WHEEL: Final = re.compile(r"(yt_dlp|yt_dlp_ejs)-([0-9A-Za-z.]+)-py3-none-any\.whl", re.ASCII)
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_PYTHON_MINOR: Final = re.compile(r">=\s*3\.(\d{1,3})", re.ASCII)


class UnavailableError(Ytmp3Error):
    """The index does not have what is wanted, or does not respond. The text says why."""


class _File(Struct, frozen=True, kw_only=True):
    """One wheel of the index."""

    filename: str
    url: str
    hashes: Mapping[str, str] = {}
    yanked: bool | str = False
    uploaded: Any = field(name="upload-time", default=None)
    """As in ISO 8601; None if the index does not say it (PEP 700). Anything else counts as None."""

    @property
    def version(self) -> str:
        match = _WHEEL.fullmatch(self.filename)
        return "" if match is None else match[2]


class _Page(Struct, frozen=True, kw_only=True):
    """A page as JSON (PEP 691)."""

    files: tuple[_File, ...] = field(default=())


def fetch(task: Fetch) -> Fetched:
    """Do the task.

    Raises:
        UnavailableError, WheelError: the text says why it cannot be done.
        OSError: a file cannot be written.
    """
    opener = _opener()
    folder = Path(task.folder, "packages")
    folder.mkdir()
    chosen = _choose(_wheels(opener, task.index, "yt-dlp", "yt_dlp"), task.wanted)
    extractor = _open(opener, chosen, "yt_dlp")
    _check_python(extractor.metadata.requires_python)
    pinned = pinned_solver(extractor.metadata.requirements)
    if pinned is None:
        raise WheelError(f"{chosen.filename} does not say which yt-dlp-ejs it wants")
    solvers = [each for each in _wheels(opener, task.index, "yt-dlp-ejs", "yt_dlp_ejs") if each.version == pinned]
    if not solvers:
        raise UnavailableError(f"the index has no wheel of yt-dlp-ejs {pinned}, which {chosen.filename} wants")
    solver = _open(opener, solvers[0], "yt_dlp_ejs")
    for wheel in (extractor, solver):
        wheel.unpack(folder)
    return Fetched(
        yt_dlp=normalized(chosen.version) or chosen.version,
        yt_dlp_ejs=pinned,
        wheels={each.filename: each.hashes["sha256"] for each in (chosen, solvers[0])},
    )


def ask(task: Ask) -> Offered:
    """Do the task.

    Raises:
        UnavailableError: the text says why it cannot be done.
    """
    files = _wheels(_opener(), task.index, "yt-dlp", "yt_dlp")
    # `yanked` is false, or the reason, which may be empty.
    offered = {version: each for each in files if each.yanked is False and (version := normalized(each.version))}
    return Offered(
        offers=tuple(
            Offer(version=version, uploaded_at=_seconds(offered[version].uploaded))
            for version in newest_first(offered)[:MAX_OFFERS]
        )
    )


def _seconds(text: object) -> float | None:
    """Return a time of the index in seconds since 1970; None if it is none."""
    try:
        parsed = dt.datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return None if parsed is None or parsed.tzinfo is None else parsed.timestamp()


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_SameSecurity(), _Login())


def _choose(files: list[_File], wanted: str) -> _File:
    """Return the wheel of yt-dlp. Withdrawn ("yanked") ones are taken only if their version is asked for."""
    by_version = {version: each for each in files if (version := normalized(each.version))}
    if wanted not in {STABLE, NIGHTLY}:
        if wanted not in by_version:
            raise UnavailableError(f"the index has no wheel of yt-dlp {wanted}")
        return by_version[wanted]
    # `yanked` is false, or the reason, which may be empty.
    offered = [version for version, each in by_version.items() if each.yanked is False]
    version = newest(version for version in offered if wanted == NIGHTLY or is_stable(version))
    if version is None:
        raise UnavailableError(f"the index has no {wanted} release of yt-dlp")
    return by_version[version]


def _open(opener: urllib.request.OpenerDirector, file: _File, package: str) -> Wheel:
    """Download a wheel, compare its hash, and open it."""
    promised = file.hashes.get("sha256", "")
    if not _SHA256.fullmatch(promised):
        raise UnavailableError(f"the index gives no SHA-256 of {file.filename}")
    content = _get(opener, file.url, MAX_WHEEL_BYTES)[0]
    found = hashlib.sha256(content).hexdigest()
    if found != promised:
        raise UnavailableError(f"{file.filename} has the SHA-256 {found}, and not the one of the index, {promised}")
    try:
        wheel = Wheel(content, package)
    except WheelError as error:
        raise WheelError(f"{file.filename}: {error}") from None
    if wheel.metadata.name.replace("_", "-").lower() != package.replace("_", "-") or (
        wheel.metadata.version != file.version
    ):
        raise WheelError(f"{file.filename}: its metadata are those of another wheel")
    return wheel


def _check_python(requirement: str) -> None:
    """Raise WheelError if this Python is too old. Other kinds of requirements are left to the trial of the release."""
    needed = [int(minor) for minor in _PYTHON_MINOR.findall(requirement)]
    if needed and max(needed) > sys.version_info.minor:
        raise WheelError(f"it needs Python 3.{max(needed)}, and this is 3.{sys.version_info.minor}")


def _wheels(opener: urllib.request.OpenerDirector, index: str, project: str, package: str) -> list[_File]:
    """Return the pure wheels of a project, with absolute URLs."""
    address = f"{index}/{project}/"
    content, kind, address = _get(opener, address, MAX_PAGE_BYTES)
    if kind.endswith("json"):
        try:
            files: Iterator[_File] = iter(msgspec.json.decode(content, type=_Page).files)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise UnavailableError(f"the page of {project} cannot be read: {error}") from None
    else:
        files = _links(content.decode("utf-8", "replace"))
    return [
        msgspec.structs.replace(each, url=urljoin(address, each.url))
        for each in files
        if (match := _WHEEL.fullmatch(each.filename)) and match[1] == package
    ]


class _Links(html.parser.HTMLParser):
    """The links of a page as HTML (PEP 503)."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[_File] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record a link."""
        attributes = dict(attrs)
        address = attributes.get("href")
        if tag != "a" or not address:
            return
        url, _, fragment = address.partition("#")
        algorithm, _, digest = fragment.partition("=")
        self.found.append(
            _File(
                filename=unquote(urlsplit(url).path.rpartition("/")[2]),
                url=url,
                hashes={algorithm: digest},
                yanked=(attributes["data-yanked"] or "") if "data-yanked" in attributes else False,
            )
        )


def _links(text: str) -> Iterator[_File]:
    parser = _Links()
    parser.feed(text)
    return iter(parser.found)


class _SameSecurity(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https:// to http://."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Raise HTTPError for a redirect that gives up TLS."""
        if urlsplit(req.full_url).scheme == "https" and urlsplit(newurl).scheme != "https":
            raise urllib.error.HTTPError(req.full_url, code, "a redirect from https:// to http://", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Login(urllib.request.BaseHandler):
    """Sends the user name and the password of a URL as Basic authentication (RFC 7617), which urllib does not do.

    They are removed from the URL, so that no error names them. They are also sent with later requests to the same
    scheme, host and port, because the pages of an index link to its files without a login, and to no other host.
    """

    handler_order = 100
    """Before the handlers that take the host from the URL; theirs is 500."""

    def __init__(self) -> None:
        self._logins: dict[tuple[str, str], str] = {}
        """The header by scheme, and host with port."""

    def http_request(self, req: urllib.request.Request) -> urllib.request.Request:
        """Return the request with its login in a header. Called for each request, also after a redirect."""
        parts = urlsplit(req.full_url)
        login, _, host = parts.netloc.rpartition("@")
        origin = (parts.scheme, host)
        if login:
            req.full_url = parts._replace(netloc=host).geturl()
            self._logins[origin] = _basic(parts)
        if origin in self._logins:
            req.add_unredirected_header("Authorization", self._logins[origin])
        return req

    https_request = http_request


def _basic(parts: SplitResult) -> str:
    pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def _get(opener: urllib.request.OpenerDirector, url: str, max_bytes: int) -> tuple[bytes, str, str]:
    """Return the body, its media type, and its URL after all redirects."""
    where = urlsplit(url)
    place = f"{where.hostname}{where.path}"
    if where.scheme not in {"http", "https"}:
        raise UnavailableError(f"{place}: only http:// and https:// are possible")
    try:
        request = urllib.request.Request(url, headers={"Accept": _ACCEPT, "User-Agent": "ytmp3"})  # noqa: S310
        with opener.open(request, timeout=TIMEOUT_SECONDS) as response:
            content: bytes = response.read(max_bytes + 1)
            kind = response.headers.get_content_type()
            answered = response.url
    except urllib.error.HTTPError as error:
        raise UnavailableError(f"{place}: HTTP {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UnavailableError(f"{place}: {error}") from None
    if len(content) > max_bytes:
        raise UnavailableError(f"{place}: more than {max_bytes} bytes")
    return content, kind, answered
