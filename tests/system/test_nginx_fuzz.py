"""Odd requests through nginx to the real app: no 5xx but 503, errors are problem documents, no response goes astray.

`make test` runs a short form; FUZZ_FACTOR makes it longer, as in `http/test_garbled_requests`.
"""

import asyncio
import json
import random
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fuzz_factor import FUZZ_FACTOR
from tests.http.garbled_requests import FOLLOW_UP, REQUESTS, garbled
from tests.system.behind_nginx import BehindNginx, behind_nginx

pytestmark = pytest.mark.fuzz

VIDEO = "dQw4w9WgXcQ"
HIDDEN = b"DELETE /jobs/%s HTTP/1.1\r\nHost: x\r\n\r\n"
"""The request that the tests of request smuggling hide in the body of another one."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    head: bytes
    body: bytes

    @property
    def is_the_follow_ups(self) -> bool:
        return self.body == b'{"status":"ok"}\n'


def answers_in(data: bytes) -> tuple[list[Answer], bytes]:
    """Split what came over a connection into whole responses, and the rest: a response that was cut off, or nothing."""
    answers = []
    while match := re.match(rb"HTTP/1\.1 (\d{3}) .*?\r\n\r\n", data, re.DOTALL):
        head, rest = match[0], data[match.end() :]
        length = re.search(rb"\r\nContent-Length: (\d+)\r\n", head)
        # A response to HEAD has a length and no body.
        size = 0 if length is None or rest[:5] == b"HTTP/" else int(length[1])
        if 0 < len(rest) < size:
            break
        answers.append(Answer(int(match[1]), head, rest[:size]))
        data = rest[size:]
    return answers, data


def is_allowed(answer: Answer) -> bool:
    """Whether a response is a success or a problem document of a client's error or of an overload."""
    if answer.status < 400:
        return True
    is_problem = b"\r\nContent-Type: application/problem+json\r\n" in answer.head
    has_its_status = not answer.body or json.loads(answer.body)["status"] == answer.status
    return is_problem and has_its_status and (answer.status < 500 or answer.status == 503)


async def asked(site: BehindNginx, request: bytes) -> list[Answer]:
    """Send a request and one that follows it, and check what comes back until nginx closes the connection."""
    data = await site.raw(request + FOLLOW_UP)
    answers, rest = answers_in(data)
    # A request line without a version is HTTP/0.9, whose response is a body without a head and the last one.
    assert rest[:5] == b"HTTP/" or not re.search(rb"HTTP/1|<html>", rest), (request, data)
    for answer in answers:
        assert is_allowed(answer), (request, answer)
    assert not [answer for answer in answers[:-1] if answer.is_the_follow_ups], (request, data)
    return answers


async def two_jobs(site: BehindNginx) -> list[bytes]:
    """Return the ids of two completed jobs: one whose status is requested, and one that may be deleted."""
    jobs = [await site.service.submit(VIDEO) for _ in range(2)]
    return [(await site.service.ended(job["job_id"]))["job_id"].encode() for job in jobs]


async def assert_in_step(site: BehindNginx, job_id: bytes) -> None:
    """A correct client, whose requests share nginx's connections to the service, gets the response to its own one."""
    async with site.service.client.get(f"{site.url}/status/{job_id.decode()}") as response:
        assert response.status == 200
        assert (await response.json())["job_id"] == job_id.decode()


async def test_garbled_requests_through_nginx_mix_up_no_responses(tmp_path: Path) -> None:
    chance = random.Random(20261124)
    slots = asyncio.Semaphore(20)
    followed: Counter[bool] = Counter()
    async with behind_nginx(tmp_path) as site:
        kept, deleted = await two_jobs(site)

        def filled(template: bytes) -> bytes:
            return template.replace(b"%s", deleted if template.startswith(b"DELETE") else kept)

        for template in REQUESTS:
            answers = await asked(site, filled(template))
            assert [answer.is_the_follow_ups for answer in answers] == [False, True], (template, answers)

        async def one(request: bytes) -> None:
            async with slots:
                answers = await asked(site, request)
                followed[bool(answers) and answers[-1].is_the_follow_ups] += 1
                await assert_in_step(site, kept)

        await asyncio.gather(
            *(one(garbled(filled(template), chance)) for template in REQUESTS for _ in range(85 * FUZZ_FACTOR))
        )
        assert site.complaints() == []
    # Many requests end their connection, and after many others the follow-up is answered: both are tested.
    assert min(followed.values()) > 20 * FUZZ_FACTOR, followed


async def test_requests_made_from_the_openapi_document_get_documented_answers_through_nginx(tmp_path: Path) -> None:
    # schemathesis takes half a second to import, in each worker of the test run.
    from tests.stand.openapi_requests import answers_are_as_documented

    async with behind_nginx(tmp_path) as site:
        answered = await answers_are_as_documented(
            # Squared: 100,000 requests in `make fuzz`.
            site.service,
            site.url,
            tmp_path,
            examples=15 * FUZZ_FACTOR**2,
            unserved=("/metrics", "/stats"),
        )
        assert {
            ("get", 200),
            ("get", 404),
            ("get", 412),
            ("head", 200),
            ("delete", 200),
            ("post", 200),
            ("post", 400),
        } <= set(answered)
        assert site.complaints() == []


SMUGGLED = {
    "length and chunked": b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n%s",
    "chunked and length": b"Transfer-Encoding: chunked\r\nContent-Length: %d\r\n\r\n0\r\n\r\n%s",
    "a space before the colon": b"Content-Length: %d\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n%s",
    "a tab before the coding": b"Content-Length: %d\r\nTransfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n%s",
    "a vertical tab": b"Content-Length: %d\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n%s",
    "a folded field": b"Content-Length: %d\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n%s",
    "a field after a lone LF": b"Content-Length: %d\r\nX: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n%s",
    "a field after a lone CR": b"Content-Length: %d\r\nX: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n%s",
    "an underscore": b"Content-Length: %d\r\nTransfer_Encoding: chunked\r\n\r\n0\r\n\r\n%s",
    "a field named by Connection": b"Connection: keep-alive, Content-Length\r\nContent-Length: %d\r\n\r\n%s",
    "two lengths": b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n%s",
    "a chunk size that overflows": b"X: %d\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff0\r\n\r\n%s",
    "a chunk extension with a LF": b"X: %d\r\nTransfer-Encoding: chunked\r\n\r\n0;\n\r\n\r\n%s",
    "an upgrade": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nContent-Length: %d\r\n\r\n%s",
}


async def test_no_request_is_smuggled_past_nginx(tmp_path: Path) -> None:
    async with behind_nginx(tmp_path) as site:
        kept, hidden = await two_jobs(site)
        secret = HIDDEN.replace(b"%s", hidden)
        for name, rest in SMUGGLED.items():
            for first in (b"POST /extract", b"GET /status/" + kept, b"POST /nowhere"):
                head = first + b" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                answers = await asked(site, head + rest % (len(secret), secret))
                assert len(answers) <= 2, (name, answers)
                await assert_in_step(site, kept)
        assert (await site.service.ended(hidden.decode()))["status"] == "completed"
        assert site.complaints() == []
