"""WEBHOOKS_FILE: what a line may say, which URLs are accepted, and which endpoints a client's job has."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from ytmp3.core.ids import ClientId
from ytmp3.core.webhook import MAX_TARGETS, WebhookEvent
from ytmp3.setting_forms import private_hosts
from ytmp3.webhooks.endpoints import (
    Endpoints,
    EndpointsFileError,
    UrlRefused,
    checked_url,
    host_of,
    parse_endpoints,
)
from ytmp3.webhooks.settings import PrivateHosts
from ytmp3.webhooks.signature import new_secret

SECRET = new_secret(b"s" * 32)
OTHER_SECRET = new_secret(b"o" * 32)
NONE = PrivateHosts()
ALICE, BOB = ClientId("key:alice"), ClientId("key:bob")


def hosts(text: str) -> PrivateHosts:
    names, networks = private_hosts(text)
    return PrivateHosts(names=names, networks=networks)


def test_a_file_has_comments_owners_rotated_secrets_and_events() -> None:
    endpoints = parse_endpoints(
        f"# endpoints\n\nshop alice https://shop.example/hook?a=1 {SECRET} {OTHER_SECRET}\n"
        f"all * https://all.example/ {SECRET} events=job.failed,batch.completed\n",
        NONE,
    )
    assert [(endpoint.name, endpoint.owner, endpoint.url) for endpoint in endpoints] == [
        ("shop", "alice", "https://shop.example/hook?a=1"),
        ("all", "*", "https://all.example/"),
    ]
    assert endpoints[0].secrets == (b"s" * 32, b"o" * 32)
    assert endpoints[0].events == tuple(WebhookEvent)
    assert endpoints[1].events == (WebhookEvent.JOB_FAILED, WebhookEvent.BATCH_COMPLETED)
    assert repr(endpoints[0]) == "Endpoint(shop)"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("shop", "expected NAME OWNER URL SECRET"),
        ("shop alice https://shop.example/token-12345", "expected NAME OWNER URL SECRET"),
        (f"shop alice https://shop.example/token-12345 {SECRET} {SECRET} {SECRET}", "expected NAME OWNER URL SECRET"),
        (f"shop alice https://shop.example/token-12345 {SECRET} events=job.failed events=x", "expected NAME OWNER"),
        (f"-shop alice https://shop.example/token-12345 {SECRET}", "NAME: expected"),
        (f"shop al:ice https://shop.example/token-12345 {SECRET}", "OWNER: expected"),
        (f"shop alice http://shop.example/token-12345 {SECRET}", "must be an https"),
        (f"shop alice shop.example/token-12345 {SECRET}", "must be an https"),
        ("shop alice https://shop.example/token-12345 " + "c2VjcmV0" * 4, "expected whsec_"),
        (f"shop alice https://shop.example/token-12345 {SECRET} events=job.ended", "expected events="),
        (f"shop alice https://shop.example/token-12345 {SECRET} kinds=job.failed", "expected events="),
    ],
)
def test_a_wrong_line_is_named_but_not_shown(line: str, reason: str) -> None:
    with pytest.raises(EndpointsFileError) as refusal:
        parse_endpoints(f"# first\n{line}\n", NONE)
    text = str(refusal.value)
    assert text.startswith("line 2: ")
    assert reason in text
    assert "token-12345" not in text
    assert SECRET not in text


def test_two_endpoints_must_not_have_one_name_nor_one_owner_too_many() -> None:
    line = f"shop alice https://shop.example/ {SECRET}\n"
    with pytest.raises(EndpointsFileError, match="two lines have the same name"):
        parse_endpoints(line * 2, NONE)
    many = "".join(f"e{number} * https://shop.example/ {SECRET}\n" for number in range(MAX_TARGETS))
    assert len(parse_endpoints(many, NONE)) == MAX_TARGETS
    with pytest.raises(EndpointsFileError, match="more than 10 endpoints"):
        parse_endpoints(many + line, NONE)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/hook", "https://example.org:443/", "https://example.org:8443/x?y=z", "https://8.8.8.8/",
        "https://[2606:4700::1111]/", "https://xn--mnchen-3ya.example/", "https://example.org.",
    ],
)  # fmt: skip
def test_a_public_https_url_is_accepted(url: str) -> None:
    assert checked_url(url, NONE) == url


@pytest.mark.parametrize(
    "url",
    [
        "", "*", "http://example.org/", "ftp://example.org/", "HTTPS://example.org/", "https://", "https:///x",
        "//example.org/", "https://user@example.org/", "https://user:pass@example.org/", "https://example.org#part",
        "https://example.org\\@10.0.0.1/", "https://example.org:22/", "https://example.org:80/",
        "https://example.org:0/", "https://example.org:99999/", "https://example.org:x/", "https://exa mple.org/",
        "https://münchen.example/", "https://exam%70le.org/", "https://[::1", "https://[fe80::1%25eth0]x/",
        "https://example.org/\r\nHost: other", "https://example.org/\x00", "https://" + "a" * 2048 + ".example/",
        "https://_/", "https://-x/",
    ],
)  # fmt: skip
def test_a_url_that_is_not_plain_https_is_refused(url: str) -> None:
    with pytest.raises(UrlRefused):
        checked_url(url, NONE)


@given(
    authority=st.text(alphabet="a1.-_:@[]%/\\?#&;, \t\u3002\uff0e\u00df\u0131", max_size=20),
    rest=st.text(alphabet="a1.-_:@[]%/\\?#&;", max_size=10),
)
def test_the_http_library_sees_the_same_host_in_every_accepted_url(authority: str, rest: str) -> None:
    url = f"https://{authority}{rest}"
    with contextlib.suppress(UrlRefused):
        checked_url(url, NONE)
        assert URL(url).host == host_of(url)


@pytest.mark.parametrize(
    ("listed", "url", "is_allowed"),
    [
        ("homeassistant.local", "http://homeassistant.local:8123/api", True),
        ("homeassistant.local", "http://HomeAssistant.Local./", True),
        ("homeassistant.local", "http://other.local/", False),
        ("homeassistant.local", "http://homeassistant.local.example.org/", False),
        ("10.0.0.0/8", "http://10.1.2.3/", True),
        ("10.0.0.0/8", "http://11.1.2.3/", False),
        ("10.0.0.0/8", "http://10.example.org/", False),
        ("192.168.1.5", "http://192.168.1.5:80/", True),
        ("192.168.1.5", "http://192.168.1.6/", False),
        ("fd00::/8, 127.0.0.1", "http://[fd00::1]/", True),
        ("fd00::/8", "ftp://[fd00::1]/", False),
    ],
)
def test_a_listed_private_host_needs_no_https(listed: str, url: str, *, is_allowed: bool) -> None:
    if is_allowed:
        assert checked_url(url, hosts(listed)) == url
    else:
        with pytest.raises(UrlRefused):
            checked_url(url, hosts(listed))


@pytest.mark.parametrize("text", ["http://x", "10.0.0.0/99", "a b/c", "*", "x:80"])
def test_a_list_of_private_hosts_has_names_and_networks_only(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        private_hosts(text)


def test_a_job_has_the_endpoints_of_its_client_and_of_everyone() -> None:
    endpoints = Endpoints(
        parse_endpoints(
            f"shop alice https://shop.example/ {SECRET}\nall * https://all.example/ {SECRET} events=job.failed\n", NONE
        )
    )
    assert [target.endpoint for target in endpoints.targets(ALICE)] == ["shop", "all"]
    (other,) = endpoints.targets(BOB)
    assert (other.endpoint, other.url, other.events) == ("all", None, (WebhookEvent.JOB_FAILED,))
    with pytest.raises(UrlRefused, match="ask the operator"):
        endpoints.targets(ALICE, "https://other.example/")
    assert not Endpoints().are_configured


def test_a_request_names_a_webhook_only_where_a_line_allows_it() -> None:
    endpoints = Endpoints(parse_endpoints(f"asked alice * {SECRET}\n", NONE))
    assert endpoints.targets(ALICE) == ()
    (target,) = endpoints.targets(ALICE, "https://other.example/")
    assert (target.endpoint, target.url) == ("asked", "https://other.example/")
    for client, url in ((BOB, "https://other.example/"), (ALICE, "http://other.example/"), (ALICE, "")):
        with pytest.raises(UrlRefused):
            endpoints.targets(client, url)


def test_replaced_endpoints_are_used_at_once() -> None:
    endpoints = Endpoints(parse_endpoints(f"shop alice https://shop.example/ {SECRET}\n", NONE))
    endpoints.replace(parse_endpoints(f"new alice https://new.example/ {SECRET}\n", NONE))
    assert [target.endpoint for target in endpoints.targets(ALICE)] == ["new"]
    assert endpoints.named("shop") is None
