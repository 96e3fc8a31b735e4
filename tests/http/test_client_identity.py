"""The client that a request is counted for, also with forged headers, and the memory that this takes."""

import gc
import ipaddress
import random
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from ytmp3.http.admission import REMEMBERED_PEERS, Admission, RateLimits
from ytmp3.http.keys import Keys
from ytmp3.http.settings import RateLimitSettings

DIRECT, PROXY = "198.51.100.7", "10.0.0.1"
# aiohttp's mocked protocol records every access to it; this one does not.
PLAIN = make_mocked_request(
    "GET", "/stats", protocol=SimpleNamespace(ssl_context=None, peername=None, sockname=None), transport=None
)
MIB = 2**20


def admission() -> Admission:
    limits = RateLimits(
        RateLimitSettings(
            requests_per_second=1e6, burst_size=1_000_000, client_requests_per_second=1, client_burst_size=1
        )
    )
    proxies = (ipaddress.ip_network("10.0.0.0/8"),)
    return Admission(keys=Keys(None), limits=limits, trusted_proxies=proxies, chance=random.Random(1).random)


def request_from(peer: str, *forwarded_for: str) -> web.Request:
    headers = CIMultiDict(("X-Forwarded-For", field) for field in forwarded_for)
    return PLAIN.clone(remote=peer, headers=headers)


def owners(admitting: Admission, requests: Iterable[web.Request]) -> set[str]:
    return {admitting.identify(request).owner for request in requests}


@contextmanager
def memory_kept() -> Iterator[Callable[[], int]]:
    """Yield a function that returns how many bytes the block has left behind; it is called after the block."""
    tracemalloc.start()
    try:
        kept = 0
        yield lambda: kept
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()


def test_no_forwarded_header_changes_the_client_of_a_direct_connection() -> None:
    chance = random.Random(10)

    def hop() -> str:
        return chance.choice((str(ipaddress.ip_address(chance.getrandbits(32))), PROXY, "unknown", "", "::1"))

    requests = (request_from(DIRECT, *(", ".join(hop() for _ in range(3)) for _ in range(2))) for _ in range(10_000))
    assert owners(admission(), requests) == {f"addr:{DIRECT}"}


def test_long_forwarded_headers_are_not_cached() -> None:
    """The parser accepts half a megabyte of them: 64 fields of 8 kB."""
    admitting = admission()
    with memory_kept() as kept:
        for peer, owner in ((DIRECT, f"addr:{DIRECT}"), (PROXY, "addr:192.0.2.1")):
            invented = (request_from(peer, f"{number}" + ", 192.0.2.1" * 700) for number in range(2000))
            assert owners(admitting, invented) == {owner}
    assert kept() < MIB


def test_the_cache_of_many_clients_behind_a_proxy_stays_small() -> None:
    admitting = admission()
    with memory_kept() as kept:
        for number in range(2 * REMEMBERED_PEERS):
            admitting.identify(request_from(PROXY, "1" * 200 + f", 192.0.{number // 256}.{number % 256}"))
    assert kept() < 4 * MIB
