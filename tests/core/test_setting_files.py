"""Settings that name a file: a file of another kind is refused at the start, not found out by each conversion."""

from pathlib import Path

import pytest

from ytmp3.setting_files import MAX_COOKIES_BYTES, certificates, cookies

COOKIE = ".youtube.com\tTRUE\t/\tTRUE\t1999999999\tSID\tabc"
CERTIFICATE = """-----BEGIN CERTIFICATE-----
MIIBYzCCAQmgAwIBAgIUX
-----END CERTIFICATE-----
"""


@pytest.mark.parametrize(
    "content",
    [
        COOKIE,
        f"# Netscape HTTP Cookie File\r\n\r\n#HttpOnly_{COOKIE}\r\n",
        f"a line that yt-dlp skips\n{COOKIE}\n",
        ".youtube.com\tTRUE\t/\tFALSE\t0\tPREF\t",
    ],
)
def test_a_file_with_a_cookie_is_accepted(tmp_path: Path, content: str) -> None:
    (tmp_path / "cookies").write_text(content)
    assert cookies(str(tmp_path / "cookies")) == tmp_path / "cookies"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'[{"domain": ".youtube.com", "name": "SID", "value": "abc"}]',
        b"# Netscape HTTP Cookie File\n",
        b"\0" * 100,
        bytes(range(256)) * 10,
        b"root:x:0:0:root:/root:/bin/bash\n",
        COOKIE.replace("\t", " ").encode(),
        b"#" * (MAX_COOKIES_BYTES + 1),
    ],
)
def test_a_file_without_a_cookie_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "cookies").write_bytes(content)
    with pytest.raises(ValueError):
        cookies(str(tmp_path / "cookies"))


@pytest.mark.parametrize("content", [b"", b"\0", b"a certificate", CERTIFICATE.encode()])
def test_a_file_without_a_certificate_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ca.pem").write_bytes(content)
    with pytest.raises(ValueError):
        certificates(str(tmp_path / "ca.pem"))
