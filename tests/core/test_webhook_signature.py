"""Signatures of webhooks, against the published vector of Standard Webhooks and an HMAC that is computed by hand.

The reference library (`standardwebhooks`) is no dependency of the project; its own tests use the same vector.
"""

import base64
import hashlib

import pytest

from ytmp3.webhooks.signature import NEW_SECRET_BYTES, new_secret, parse_secret, signed_headers

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSAGE_ID, TIMESTAMP, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def hmac_by_hand(key: bytes, content: bytes) -> bytes:
    """Compute HMAC-SHA256 as RFC 2104 defines it, without the module that the service uses."""
    block = (key if len(key) <= 64 else hashlib.sha256(key).digest()).ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block) + content).digest()
    return hashlib.sha256(bytes(byte ^ 0x5C for byte in block) + inner).digest()


def verified(headers: dict[str, str], body: bytes, secret: bytes) -> bool:
    """Verify a message as a receiver does: one of its signatures must be right."""
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = "v1," + base64.b64encode(hmac_by_hand(secret, content)).decode()
    return expected in headers["webhook-signature"].split(" ")


def test_the_published_vector_has_the_published_signature() -> None:
    headers = signed_headers(MESSAGE_ID, TIMESTAMP, BODY, [parse_secret(SECRET)])
    assert headers == {
        "webhook-id": MESSAGE_ID,
        "webhook-timestamp": str(TIMESTAMP),
        "webhook-signature": SIGNATURE,
    }


@pytest.mark.parametrize("length", [24, 32, 63, 64])
def test_a_receiver_with_another_implementation_accepts_a_message(length: int) -> None:
    secret = bytes(range(length))
    body = '{"data":"ünïcode"}'.encode()
    headers = signed_headers("job-0", 1_800_000_000, body, [secret])
    assert verified(headers, body, secret)
    assert not verified(headers, body + b" ", secret)
    assert not verified(headers | {"webhook-timestamp": "1800000001"}, body, secret)
    assert not verified(headers | {"webhook-id": "job-1"}, body, secret)


def test_while_a_secret_is_replaced_both_receivers_accept_a_message() -> None:
    old, new = b"o" * 24, b"n" * 24
    headers = signed_headers("job-0", 1_800_000_000, b"{}", [old, new])
    assert verified(headers, b"{}", old)
    assert verified(headers, b"{}", new)
    assert not verified(headers, b"{}", b"x" * 24)


def test_a_new_secret_has_the_form_that_is_read() -> None:
    chance = bytes(range(NEW_SECRET_BYTES))
    assert parse_secret(new_secret(chance)) == chance


@pytest.mark.parametrize(
    "text",
    [
        "",
        "whsec_",
        "whsec_MfKQ",
        SECRET.removeprefix("whsec_"),
        "WHSEC_" + SECRET[6:],
        SECRET + "!",
        "whsec_" + "A" * 92,
    ],
)
def test_a_secret_of_another_form_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="expected whsec_") as refusal:
        parse_secret(text)
    assert "MfKQ" not in str(refusal.value)
