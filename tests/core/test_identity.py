"""Client addresses that no header can forge, and API keys: their file, and their comparison in constant time."""

import hashlib
import ipaddress
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz_factor import FUZZ_FACTOR
from ytmp3.core.client import ApiKey, Client
from ytmp3.core.ids import ClientId
from ytmp3.http.identity import MAX_HOPS, client_address, is_trusted, presented_secret
from ytmp3.http.keys import (
    KEY_BYTES,
    KEY_PREFIX,
    KeyFileError,
    Keys,
    digest_of,
    find_key,
    key_line,
    new_secret,
    owner_of,
    parse_keys,
)

PROXIES = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"), ipaddress.ip_network("127.0.0.1"))
SECRET = new_secret(bytes(range(KEY_BYTES)))
HEX = digest_of(SECRET).hex()


# Addresses


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "expected"),
    [
        # no trusted proxy: the header may be invented
        ("198.51.100.7", [], "198.51.100.7"),
        ("198.51.100.7", ["1.2.3.4"], "198.51.100.7"),
        ("198.51.100.7", ["10.0.0.1"], "198.51.100.7"),
        # a trusted proxy: the right-most entry that is not one
        ("10.0.0.1", ["1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["6.6.6.6, 1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["6.6.6.6", "1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["6.6.6.6, 1.2.3.4, 10.0.0.2"], "1.2.3.4"),
        ("10.0.0.1", ["6.6.6.6,1.2.3.4,10.0.0.2, 10.9.9.9"], "1.2.3.4"),
        ("127.0.0.1", [" 1.2.3.4 "], "1.2.3.4"),
        ("fd00::1", ["1.2.3.4"], "1.2.3.4"),
        # only proxies, or an unreadable entry: the nearest known address
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["1.2.3.4, garbage"], "10.0.0.1"),
        ("10.0.0.1", ["1.2.3.4, garbage, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["1.2.3.4:5678"], "10.0.0.1"),
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("10.0.0.1", ["1.2.3.4,"], "10.0.0.1"),
        ("10.0.0.1", ["0x7f.1"], "10.0.0.1"),
        # at most MAX_HOPS entries are read
        ("10.0.0.1", ["1.2.3.4, " + ", ".join(f"10.0.0.{n}" for n in range(2, 2 + MAX_HOPS - 1))], "1.2.3.4"),
        ("10.0.0.1", ["1.2.3.4, " + ", ".join(f"10.0.0.{n}" for n in range(2, 2 + MAX_HOPS))], "10.0.0.2"),
        ("10.0.0.1", ["1.2.3.4", *(f"10.0.0.{n}" for n in range(2, 2 + MAX_HOPS))], "10.0.0.2"),
        # one subscriber has a whole /64
        ("2001:db8:1:2:3:4:5:6", [], "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", [], "2001:db8:1:2::/64"),
        ("10.0.0.1", ["2001:db8:1:2:aaaa::"], "2001:db8:1:2::/64"),
        ("fe80::1%eth0", [], "fe80::/64"),
        # an IPv4 address written as IPv6
        ("::ffff:198.51.100.7", [], "198.51.100.7"),
        ("::ffff:10.0.0.1", ["::ffff:1.2.3.4"], "1.2.3.4"),
        # no address at all
        (None, ["1.2.3.4"], "unknown"),
        ("", ["1.2.3.4"], "unknown"),
        ("not an address", [], "unknown"),
    ],
)
def test_the_address_is_the_rightmost_one_that_is_not_a_trusted_proxy(
    peer: str | None, forwarded_for: list[str], expected: str
) -> None:
    assert client_address(peer, forwarded_for, PROXIES) == expected


@pytest.mark.parametrize(
    ("peer", "expected"),
    [("10.0.0.1", True), ("::ffff:10.0.0.1", True), ("198.51.100.7", False), ("garbage", False), (None, False)],
)
def test_only_a_trusted_proxy_may_name_the_client(peer: str | None, *, expected: bool) -> None:
    assert is_trusted(peer, PROXIES) is expected
    assert not is_trusted(peer, ())


hops = st.one_of(
    st.ip_addresses().map(str),
    st.sampled_from(
        ["10.0.0.5", "fd00::5", "127.0.0.1", "unknown", "", "1.2.3.4:80", "[::1]", "_hidden", "for=1.2.3.4"]
    ),
    st.text(max_size=8),
)


@given(st.lists(st.lists(hops, max_size=4).map(", ".join), max_size=3))
@settings(max_examples=300 * FUZZ_FACTOR)
def test_no_header_changes_the_address_of_a_direct_client(forwarded_for: list[str]) -> None:
    assert client_address("198.51.100.7", forwarded_for, PROXIES) == "198.51.100.7"
    assert client_address("198.51.100.7", forwarded_for, ()) == "198.51.100.7"


@given(st.lists(st.lists(hops, max_size=4).map(", ".join), max_size=3))
@settings(max_examples=300 * FUZZ_FACTOR)
def test_no_header_changes_the_address_of_a_client_behind_a_proxy(invented: list[str]) -> None:
    # nginx appends on the right; what the client wrote is to the left of it.
    assert client_address("10.0.0.1", [*invented, "203.0.113.9"], PROXIES) == "203.0.113.9"
    joined = ", ".join([*invented, "203.0.113.9", "10.0.0.2"])
    assert client_address("10.0.0.1", [joined], PROXIES) == "203.0.113.9"


def test_half_a_megabyte_of_hops_is_read_from_the_right_and_no_further() -> None:
    header = [", ".join(["192.0.2.1"] * 750)] * 64
    began_at = time.process_time()
    for _ in range(1000):
        assert client_address("10.0.0.1", header, PROXIES) == "192.0.2.1"
    # CPU time, which other programs do not add to. Parsing every hop would take many times as long.
    assert time.process_time() - began_at < 1.0


@given(st.ip_addresses(v=6))
def test_all_addresses_of_a_64_are_one_client(address: ipaddress.IPv6Address) -> None:
    neighbour = ipaddress.IPv6Address(int(address) ^ 0xFFFF)
    if address.ipv4_mapped is None and neighbour.ipv4_mapped is None:
        assert client_address(str(address), [], ()) == client_address(str(neighbour), [], ())


# Keys


def test_a_new_key_is_long_and_recognisable() -> None:
    assert SECRET.startswith(KEY_PREFIX)
    assert len(bytes.fromhex(SECRET.removeprefix(KEY_PREFIX))) * 8 == 192
    assert digest_of(SECRET) == hashlib.sha256(SECRET.encode()).digest()


def test_the_line_of_a_new_key_is_read_back_and_matches_the_key() -> None:
    line = key_line("alice", SECRET)
    assert SECRET not in line
    keys = parse_keys(line)
    assert find_key(keys, SECRET) == ApiKey(name="alice", digest=digest_of(SECRET))


def test_a_keys_file_has_comments_limits_and_several_keys_of_one_name() -> None:
    other = digest_of("another").hex()
    keys = parse_keys(
        f"# our keys\n\nalice {HEX}  # the old one\nalice {other}\n"
        f"bob.b-2_x {HEX.upper()} requests_per_second=2.5 burst=10 max_jobs=3\r\n"
    )
    assert [key.name for key in keys] == ["alice", "alice", "bob.b-2_x"]
    assert (keys[2].requests_per_second, keys[2].burst, keys[2].max_jobs) == (2.5, 10, 3)
    assert (keys[0].requests_per_second, keys[0].burst, keys[0].max_jobs) == (None, None, None)
    assert {key.name for key in (find_key(keys[:2], SECRET), find_key(keys[:2], "another")) if key} == {"alice"}


@pytest.mark.parametrize(
    "line",
    [
        "alice",
        HEX,
        f"alice {HEX[:-1]}",
        f"alice {HEX}00",
        f"alice {'z' * 64}",
        f"alice {'é' * 64}",
        f"-alice {HEX}",
        f"{'a' * 65} {HEX}",
        f"älice {HEX}",
        f"\ufeffalice {HEX}",
        f"alice {HEX} burst",
        f"alice {HEX} burst=",
        f"alice {HEX} burst=ten",
        f"alice {HEX} burst=0",
        f"alice {HEX} burst=1.5",
        f"alice {HEX} max_jobs=-1",
        f"alice {HEX} requests_per_second=nan",
        f"alice {HEX} requests_per_second=inf",
        f"alice {HEX} requests_per_second=0",
        f"alice {HEX} colour=red",
        f"alice: {HEX}",
    ],
)
def test_a_bad_line_is_named_by_number_and_its_content_is_not_shown(line: str) -> None:
    with pytest.raises(KeyFileError, match=r"^line 3: .*expected") as caught:
        parse_keys(f"# keys\nbob {HEX}\n{line}\n")
    assert HEX[:20] not in str(caught.value)
    assert "alice" not in str(caught.value)


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("rps=5", "unknown limit rps: expected one of requests_per_second, burst, max_jobs, with =N behind it"),
        ("max_downloads=2", "unknown limit max_downloads: expected one of requests_per_second, burst, max_jobs"),
        ("max_jobs", "unknown limit: expected one of"),
        ("hunter", "unknown limit: expected one of"),
        ("max_jobs=0", "max_jobs: expected an integer above 0"),
        ("max_jobs=1.5", "max_jobs: expected an integer above 0"),
        ("requests_per_second=nan", "requests_per_second: expected a number above 0"),
        ("max_jobs=1 max_jobs=2", "max_jobs: given twice"),
    ],
)
def test_a_wrong_limit_is_named(option: str, text: str) -> None:
    with pytest.raises(KeyFileError) as caught:
        parse_keys(f"alice {'0' * 64} {option}\n")
    assert str(caught.value).startswith(f"line 1: {text}")


def test_a_burst_without_a_rate_is_refused() -> None:
    with pytest.raises(KeyFileError, match=r"^line 2: burst= needs requests_per_second= beside it$"):
        parse_keys(f"bob {HEX}\nalice {HEX} burst=10 max_jobs=3\n")


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing yet\n"])
def test_a_file_without_keys_is_refused(text: str) -> None:
    with pytest.raises(KeyFileError, match="holds no key"):
        parse_keys(text)


@pytest.mark.parametrize(
    "secret",
    [
        None,
        "",
        "x",
        SECRET[:-1],
        SECRET + "0",
        SECRET.upper(),
        f" {SECRET}",
        "clé",
        "\udcff\udc80",
        "\x00",
        "k" * 10_240,
    ],
)
def test_a_text_that_is_not_exactly_the_key_finds_no_key(secret: str | None) -> None:
    assert find_key(parse_keys(f"alice {HEX}"), secret) is None


@given(st.binary(max_size=250))
def test_no_bytes_in_a_header_are_too_strange_to_be_refused(raw: bytes) -> None:
    # aiohttp hands header bytes over in this form.
    assert find_key(parse_keys(f"alice {HEX}"), raw.decode("utf-8", "surrogateescape")) is None


def test_every_key_is_compared_also_after_a_match() -> None:
    class Counting(tuple[ApiKey, ...]):
        __slots__ = ()
        seen = 0

        def __iter__(self) -> Iterator[ApiKey]:
            for key in super().__iter__():
                Counting.seen += 1
                yield key

    keys = Counting(parse_keys(f"alice {HEX}\nbob {digest_of('b').hex()}\ncarol {digest_of('c').hex()}"))
    assert find_key(keys, SECRET) == keys[0]
    assert Counting.seen == 3


@pytest.mark.parametrize(
    ("api_key", "authorization", "expected"),
    [
        (["k"], [], "k"),
        ([], ["Bearer k"], "k"),
        ([], ["bearer k"], "k"),
        ([], ["BEARER   k "], "k"),
        ([], [], None),
        ([""], [], None),
        ([], ["Bearer"], None),
        ([], ["Bearer "], None),
        ([], ["Bearer  x y"], "x y"),
        ([], ["Basic dTpw"], None),
        ([], ["k"], None),
        ([], [""], None),
        # two secrets: neither is accepted
        (["k", "k"], [], None),
        ([], ["Bearer k", "Bearer k"], None),
        (["k"], ["Bearer k"], None),
        (["k"], ["Basic dTpw"], None),
    ],
)
def test_exactly_one_secret_is_presented(api_key: list[str], authorization: list[str], expected: str | None) -> None:
    assert presented_secret(api_key, authorization) == expected


def test_clients_without_a_key_are_equal_by_owner() -> None:
    assert Client(owner=ClientId("addr:192.0.2.1")) == Client(owner=ClientId("addr:192.0.2.1"), key=None)


def test_replaced_keys_are_the_accepted_ones() -> None:
    keys = Keys(parse_keys(f"alice {HEX}"))
    assert keys.are_required
    others = parse_keys(f"bob {digest_of('b').hex()}")
    keys.replace(others)
    assert keys.keys == others
    assert not Keys(None).are_required


def test_a_client_has_a_key_until_it_is_withdrawn() -> None:
    alice, bob = (ApiKey(name=name, digest=bytes(32)) for name in ("alice", "bob"))
    keys = Keys((alice, bob))
    assert keys.has_owner(owner_of(alice))
    keys.replace((bob,))
    assert not keys.has_owner(owner_of(alice))
    assert not Keys(None).has_owner(owner_of(bob))


def test_an_owner_has_the_limits_of_its_key_for_as_long_as_the_key_exists() -> None:
    keys = Keys(parse_keys(f"alice {HEX} max_jobs=3"))
    alice = keys.client_of(ClientId("key:alice"))
    assert alice.key is not None
    assert alice.key.max_jobs == 3
    keys.replace(())
    assert keys.client_of(alice.owner) == Client(owner=alice.owner)
    assert Keys(None).client_of(alice.owner).key is None
