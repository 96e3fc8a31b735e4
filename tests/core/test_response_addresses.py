"""The addresses in responses, with and without PUBLIC_URL and signed links."""

import pytest
from aiohttp.test_utils import make_mocked_request

from ytmp3.http.addresses import Addresses
from ytmp3.http.links import SECRET_BYTES, LinkSigner


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"Host": "10.0.0.1:8080"}, "http://10.0.0.1:8080/x"),
        ({"Host": "music.example", "X-Forwarded-Proto": "https"}, "https://music.example/x"),
        ({}, "http:///x"),
    ],
)
def test_without_a_public_url_a_whole_address_is_the_one_that_the_client_used(
    fields: dict[str, str], expected: str
) -> None:
    assert Addresses().absolute(make_mocked_request("GET", "/", fields), "/x") == expected


def test_a_public_url_begins_every_address() -> None:
    addresses = Addresses(public_path="/music", public_url="https://example.org/music")
    assert addresses.absolute(make_mocked_request("GET", "/", {"Host": "10.0.0.1"}), "/x") == (
        "https://example.org/music/x"
    )
    assert addresses.of_job("j") == "/music/status/j"
    assert addresses.of_batch("b") == "/music/batches/b"
    assert addresses.of_items("b") == "/music/batches/b/items"
    assert addresses.of_items("b", 100) == "/music/batches/b/items?cursor=100"
    assert addresses.of_archive("b", "r") == "/music/batches/b/archive.zip?revision=r"
    assert addresses.of_track("j", "mp3") == "/music/download/j.mp3"


def test_a_signed_link_follows_what_the_address_has_already() -> None:
    signer = LinkSigner(b"s" * SECRET_BYTES, seconds=60)
    addresses = Addresses(signer=signer)
    assert addresses.of_archive("b", "r", 99) == f"/batches/b/archive.zip?revision=r&{signer.query('b', 99)}"
    assert addresses.of_track("j", "mp3", 99) == f"/download/j.mp3?{signer.query('j', 99)}"
    assert addresses.of_archive("b", "r") == "/batches/b/archive.zip?revision=r"


def test_the_next_page_of_the_list_of_jobs_has_the_same_limit() -> None:
    assert Addresses(public_path="/music").of_jobs(limit=20, cursor="abc") == "/music/jobs?limit=20&cursor=abc"
