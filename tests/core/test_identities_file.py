"""IDENTITIES_FILE: what a line may say, and that an error names the line and shows nothing of it."""

from pathlib import Path

import pytest

from ytmp3.converter.settings import Egress, Identity
from ytmp3.identities_file import IdentitiesFileError, parse_identities, read_identities_file

COOKIES = Path(__file__).parent / "samples/cookies.txt"


def test_each_line_is_an_identity() -> None:
    text = f"""
# a comment
home source=192.0.2.10 family=4

vpn proxy=socks5h://user:hunter2@vpn:1080 videos_per_hour=0 po_token=yes
account cookies={COOKIES} videos_per_hour=1000 po_token=no
plain
"""
    assert parse_identities(text) == (
        Identity(name="home", egress=Egress(source_address="192.0.2.10", family="4"), videos_per_hour=240),
        Identity(
            name="vpn", egress=Egress(proxy="socks5h://user:hunter2@vpn:1080"), videos_per_hour=0, has_po_tokens=True
        ),
        Identity(name="account", egress=Egress(), cookies_file=COOKIES, videos_per_hour=1000),
        Identity(name="plain", egress=Egress(), videos_per_hour=240),
    )


@pytest.mark.parametrize(
    "line",
    [
        "-hunter2",
        "hunter2/",
        "a proxy=hunter2",
        "a proxy=https://u:hunter2@proxy",
        "a proxy=http://u:hunter2@proxy:x",
        "a source=hunter2",
        "a source=192.0.2.1 proxy=http://hunter2",
        "a family=hunter2",
        "a cookies=/nonexistent/hunter2",
        "a cookies=/" + "hunter2" * 100,
        "a videos_per_hour=hunter2",
        "a videos_per_hour=-1",
        "a videos_per_hour=1.5",
        "a videos_per_hour=100001",
        "a videos_per_hour=" + "9" * 5000,
        "a po_token=hunter2",
        "a hunter2=x",
        "a hunter2",
        "a family=",
        "a family=4 family=6",
        "first",
    ],
)
def test_an_error_names_the_line_and_shows_nothing_of_it(line: str) -> None:
    with pytest.raises(IdentitiesFileError, match=r"^line 3: ") as refused:
        parse_identities(f"first\n\n{line}\n")
    assert "hunter2" not in str(refused.value)


def test_a_file_without_an_identity_is_refused() -> None:
    for text in ("", "# nothing\n"):
        with pytest.raises(IdentitiesFileError):
            parse_identities(text)


def test_no_repr_shows_a_secret() -> None:
    (identity,) = parse_identities("vpn proxy=http://user:hunter2@vpn:1080")
    assert "hunter2" not in repr(identity) + repr(identity.egress)
    assert "vpn" in repr(identity)


def test_who_may_write_the_file_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "identities"
    path.write_text("home\n")
    path.chmod(0o600)
    assert len(read_identities_file(path)) == 1
    path.chmod(0o606)
    with pytest.raises(IdentitiesFileError, match="chmod 600"):
        read_identities_file(path)
    path.chmod(0o600)
    path.write_bytes(b"\xff")
    with pytest.raises(IdentitiesFileError, match="UTF-8"):
        read_identities_file(path)
    with pytest.raises(IdentitiesFileError, match="No such file"):
        read_identities_file(tmp_path / "missing")
