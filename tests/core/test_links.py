"""Signed download links: they end in time, and nothing about one can be changed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ytmp3.http.addresses import Addresses
from ytmp3.http.links import SECRET_BYTES, LinkSigner

SIGNER = LinkSigner(b"s" * SECRET_BYTES, seconds=3600)
JOB = "ab" + "1" * 32
NOW = 1_700_000_000.5


def parts(signer: LinkSigner = SIGNER, job_id: str = JOB, until: int = 1_700_003_600) -> tuple[str, str]:
    """Return the two values of a link's query."""
    fields = dict(field.split("=", 1) for field in signer.query(job_id, until).split("&"))
    return fields["until"], fields["signature"]


def test_a_link_is_valid_for_its_job_and_its_end() -> None:
    until, signature = parts()
    assert SIGNER.verified_end(JOB, [until], [signature]) == 1_700_003_600


def test_another_instance_with_the_same_secret_accepts_a_link() -> None:
    until, signature = parts()
    assert LinkSigner(b"s" * SECRET_BYTES, seconds=60).verified_end(JOB, [until], [signature]) == int(until)


@pytest.mark.parametrize(
    ("job_id", "until", "signature"),
    [
        ("ab" + "1" * 31 + "2", None, None),
        (JOB + "\n", None, None),
        (JOB, "1700003601", None),
        (JOB, "01700003600", None),
        (JOB, "+1700003600", None),
        (JOB, "", None),
        (JOB, "9" * 400, None),
        (JOB, "\u0661\u0667", None),
        (JOB, None, ""),
        (JOB, None, "A" * 43),
        (JOB, None, "\ud800"),
        (JOB, None, "é" * 43),
    ],
)
def test_a_changed_link_is_not_accepted(job_id: str, until: str | None, signature: str | None) -> None:
    real_until, real_signature = parts()
    given = [real_until if until is None else until], [real_signature if signature is None else signature]
    assert SIGNER.verified_end(job_id, *given) is None


def test_a_link_signed_with_another_secret_is_not_accepted() -> None:
    until, signature = parts(LinkSigner(b"t" * SECRET_BYTES, seconds=3600))
    assert SIGNER.verified_end(JOB, [until], [signature]) is None


def test_a_parameter_that_is_missing_or_given_twice_makes_no_link() -> None:
    until, signature = parts()
    for untils, signatures in (
        ([], [signature]),
        ([until], []),
        ([until] * 2, [signature]),
        ([until], [signature] * 2),
    ):
        assert SIGNER.verified_end(JOB, untils, signatures) is None


@given(st.text(), st.text(), st.text())
def test_no_text_makes_a_link_and_none_raises(job_id: str, until: str, signature: str) -> None:
    assert SIGNER.verified_end(job_id, [until], [signature]) is None


@given(st.floats(1e9, 2e9), st.integers(1, 31_536_000))
def test_a_link_lasts_at_least_nine_tenths_of_its_time_and_never_longer(now: float, seconds: int) -> None:
    end = LinkSigner(b"s" * SECRET_BYTES, seconds=seconds).end(now, None)
    assert seconds - max(1, seconds / 10) - 1 <= end - now <= seconds


def test_a_link_never_lasts_longer_than_the_track() -> None:
    assert SIGNER.end(NOW, NOW + 60) == int(NOW + 60)
    assert SIGNER.end(NOW, NOW + 86_400) < NOW + 3600.5


def test_the_same_link_is_shown_for_a_tenth_of_its_time() -> None:
    assert len({SIGNER.end(1_700_000_000 + second, None) for second in range(360)}) <= 2


def test_only_a_job_with_a_signer_and_an_end_gets_a_link() -> None:
    plain = f"/download/{JOB}.mp3"
    assert Addresses().of_track(JOB, "mp3", 1_700_003_600) == plain
    assert Addresses(signer=SIGNER).of_track(JOB, "mp3") == plain
    link = Addresses(public_path="/x", signer=SIGNER).of_track(JOB, "mp3", 1_700_003_600)
    assert link == f"/x{plain}?{SIGNER.query(JOB, 1_700_003_600)}"
