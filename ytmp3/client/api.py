"""The requests of the client, and the errors that they may raise."""

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias
from urllib.parse import urljoin, urlsplit

from ytmp3 import __version__

Job: TypeAlias = dict[str, Any]
"""A job, as the API shows it (docs/api.md, "Fields of a job")."""
Batch: TypeAlias = dict[str, Any]
"""A batch, as the API shows it (docs/api.md, "Batches")."""

REQUEST_SECONDS: Final = 30.0
"""Longest wait, in seconds, for a response, or for the next bytes of one."""
PATIENCE_SECONDS: Final = 300.0
"""How long, in seconds, a request is retried while the response is 429 or 503, or there is none."""
UNREACHABLE_PAUSE_SECONDS: Final = 2.0
"""Pause, in seconds, before a request without a response is retried."""
MAX_ANSWER_BYTES: Final = 10**6
"""Most bytes of a JSON response that are read. A job has about 1 kB."""
JOBS_AT_ONCE: Final = 50
"""Most jobs in one response to `GET /jobs`, so that it stays below MAX_ANSWER_BYTES."""
_TRANSIENT: Final = frozenset({429, 503})
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


class Unreachable(Exception):
    """No service responds at the address."""


class Refused(Exception):
    """The service responded with an error. The text is for the user; `code` is stable."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        retry_after_seconds: float | None = None,
        document: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.retry_after_seconds = retry_after_seconds
        self.document = document or {}
        """The body of the response, if it was a JSON object."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but sends the key to no other server."""

    def redirect_request(self, req: urllib.request.Request, *arguments: Any, **more: Any) -> Any:
        redirected = super().redirect_request(req, *arguments, **more)
        if redirected is not None and urlsplit(redirected.full_url).netloc != urlsplit(req.full_url).netloc:
            redirected.remove_header("X-api-key")
        return redirected


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """A client of one service. Only tests pass another `sleep`; `patience_seconds` is how long requests are retried."""

    server: str
    """The address of the service, with or without a path."""
    key: str | None = None
    sleep: Callable[[float], None] = time.sleep
    patience_seconds: float = PATIENCE_SECONDS
    opener: urllib.request.OpenerDirector = field(init=False)

    def __post_init__(self) -> None:
        """Make the opener."""
        # A proxy from the environment cannot reach a service on this machine.
        proxies = [urllib.request.ProxyHandler({})] if urlsplit(self.server).hostname in _LOOPBACK else []
        object.__setattr__(self, "opener", urllib.request.build_opener(_Redirects, *proxies))

    def submit(self, link: str, fields: Mapping[str, Any]) -> Job:
        """Create a job for a link. If the queue is full or a rate limit applies, wait and retry.

        Raises:
            Unreachable, Refused
        """
        body = json.dumps({"url": link, **fields}).encode()
        return self._repeated(lambda: self._json("POST", "/extract", body))

    def probe(self, link: str) -> dict[str, Any]:
        """Return what YouTube offers for a video. If the result is not there yet, or a limit applies, wait and retry.

        Raises:
            Unreachable, Refused
        """
        body = json.dumps({"url": link}).encode()
        return self._repeated(lambda: self._json("POST", "/probe", body))

    def status(self, job_id: str) -> Job:
        """Read a job.

        Raises:
            Unreachable, Refused
        """
        return self._repeated(lambda: self._json("GET", f"/status/{job_id}"))

    def submit_batch(self, fields: Mapping[str, Any]) -> Batch:
        """Create a batch: of the entries of a playlist, or of the chapters of a video.

        Raises:
            Unreachable, Refused
        """
        body = json.dumps(dict(fields)).encode()
        return self._repeated(lambda: self._json("POST", "/batches", body))

    def batch(self, batch_id: str) -> Batch:
        """Read a batch.

        Raises:
            Unreachable, Refused
        """
        return self._repeated(lambda: self._json("GET", f"/batches/{batch_id}"))

    def items(self, batch_id: str) -> Iterator[dict[str, Any]]:
        """Yield the items of a batch with their jobs.

        Raises:
            Unreachable, Refused
        """
        path: str | None = f"/batches/{batch_id}/items"
        while path is not None:
            page = self._page(path)
            yield from page["items"]
            path = page["next_url"]

    def cancel_batch(self, batch_id: str) -> Batch:
        """Cancel a batch. Tried only once, because the user is waiting for the command to end.

        Raises:
            Unreachable, Refused
        """
        return self._json("DELETE", f"/batches/{batch_id}")

    def failed_checks(self) -> list[str]:
        """Return the details of the service's health checks that fail now; none if its health is not public.

        Raises:
            Unreachable
        """
        try:
            health: Mapping[str, Any] = self._json("GET", "/health")
        except Refused as error:
            health = error.document
        checks = health.get("checks", {})
        return [str(check["detail"]) for check in checks.values() if not check["ok"]]

    def jobs(self, number: int) -> Iterator[Job]:
        """Yield the newest jobs of the key's owner, at most `number`.

        Raises:
            Unreachable, Refused
        """
        path: str | None = f"/jobs?limit={min(number, JOBS_AT_ONCE)}"
        while path is not None and number > 0:
            page = self._json("GET", path)
            yield from page["jobs"][:number]
            number, path = number - len(page["jobs"]), page["next_url"]

    def cancel(self, job_id: str) -> Job:
        """Cancel a job. Tried only once, because the user is waiting for the command to end.

        Raises:
            Unreachable, Refused
        """
        return self._json("DELETE", f"/jobs/{job_id}")

    def is_alive(self) -> bool:
        """Return whether a ytmp3 service responds at the address."""
        try:
            return self._json("GET", "/health/live").get("status") == "ok"
        except Unreachable:
            return False
        except Refused as error:
            return error.status in _TRANSIENT

    def open(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        *,
        seconds: float = REQUEST_SECONDS,
    ) -> http.client.HTTPResponse:
        """Send a request, and return the response before its body is read. `seconds`: longest wait for next bytes.

        Raises:
            Unreachable, Refused
        """
        address = self._address(path)
        # `server` is an http(s) address: arguments.py has checked it.
        request = urllib.request.Request(address, data=body, method=method, headers=dict(headers or {}))  # noqa: S310
        request.add_header("User-Agent", f"ytmp3/{__version__}")
        if self.key is not None:
            request.add_header("X-API-Key", self.key)
        try:
            response: http.client.HTTPResponse = self.opener.open(request, timeout=seconds)
        except urllib.error.HTTPError as error:
            with error:
                raise _refused(error) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise Unreachable(f"no answer from {self.server}: {reason}") from None
        return response

    def _address(self, path: str) -> str:
        """Return the URL of a path: one from a response, or one relative to the address of the service."""
        base = self.server.rstrip("/")
        prefix = urlsplit(base).path
        if prefix and (path == prefix or path.startswith(f"{prefix}/")):
            # PUBLIC_URL is set: the paths in responses already begin with its path.
            return urljoin(base, path)
        return base + path

    def _page(self, path: str) -> dict[str, Any]:
        return self._repeated(lambda: self._json("GET", path))

    def _json(self, method: str, path: str, body: bytes | None = None) -> Job:
        headers = {"Accept": "application/json"} | ({} if body is None else {"Content-Type": "application/json"})
        with self.open(method, path, headers, body) as response:
            return _decoded(response.read(MAX_ANSWER_BYTES), self.server)

    def _repeated(self, request: Callable[[], Job]) -> Job:
        """Retry a request while the response is 429 or 503 or there is none, for at most `patience_seconds`."""
        waited_seconds = 0.0
        while True:
            try:
                return request()
            except Refused as error:
                pause_seconds = error.retry_after_seconds or UNREACHABLE_PAUSE_SECONDS
                if error.status not in _TRANSIENT or waited_seconds + pause_seconds > self.patience_seconds:
                    raise
            except Unreachable:
                pause_seconds = UNREACHABLE_PAUSE_SECONDS
                if waited_seconds + pause_seconds > self.patience_seconds:
                    raise
            self.sleep(pause_seconds)
            waited_seconds += pause_seconds


def _decoded(body: bytes, server: str) -> Job:
    try:
        decoded: object = json.loads(body)
    except ValueError:
        decoded = None
    if not isinstance(decoded, dict):
        raise Unreachable(f"{server} is no ytmp3 service: it does not answer with JSON")
    return decoded


def _refused(error: urllib.error.HTTPError) -> Refused:
    try:
        decoded = json.loads(error.read(MAX_ANSWER_BYTES))
    except (ValueError, OSError, http.client.HTTPException):
        decoded = None
    document: Mapping[str, Any] = decoded if isinstance(decoded, dict) else {}
    code = str(document.get("code", "unknown"))
    detail = str(document.get("detail", f"the service answered with {error.code}"))
    after = error.headers.get("Retry-After", "")
    return Refused(error.code, code, detail, float(after) if after.isdecimal() else None, document)
