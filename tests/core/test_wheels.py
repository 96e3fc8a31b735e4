"""Wheels are unpacked only if they are what they say, and never outside their folder."""

import io
import stat
import zipfile
from pathlib import Path

import pytest

from ytmp3.converter.releases.wheels import MAX_FILES, Wheel, WheelError

METADATA = b"Name: yt-dlp\nVersion: 2026.8.19\nRequires-Python: >=3.10\nRequires-Dist: yt-dlp-ejs==0.8.0\n"


def archive(*members: tuple[str | zipfile.ZipInfo, bytes], metadata: bytes = METADATA) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, body in (*members, ("yt_dlp-2026.8.19.dist-info/METADATA", metadata)):
            file.writestr(name, body)
    return content.getvalue()


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def test_a_wheel_is_unpacked_without_its_documentation(tmp_path: Path) -> None:
    wheel = Wheel(archive(("yt_dlp/a/b.py", b"x"), ("yt_dlp-2026.8.19.data/data/share/man.1", b"y")), "yt_dlp")
    assert (wheel.metadata.version, wheel.metadata.requirements) == ("2026.8.19", ("yt-dlp-ejs==0.8.0",))
    wheel.unpack(tmp_path)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == [
        "yt_dlp-2026.8.19.dist-info/METADATA",
        "yt_dlp/a/b.py",
    ]


@pytest.mark.parametrize(
    "name",
    [
        *("../yt_dlp.py", "/yt_dlp/a.py", "yt_dlp/../../a.py", "yt_dlp/./a.py", "yt_dlp//a.py", "other/a.py", "a.pth"),
        *("yt_dlp/a.so", "yt_dlp/a.pyc", "yt_dlp/.hidden", "yt_dlp/a\\..\\b.py", "yt_dlp_x/a.py", "yt_dlp/a\n.py"),
    ],
)
def test_a_member_outside_the_package_is_refused(name: str) -> None:
    with pytest.raises(WheelError):
        Wheel(archive((name, b"")), "yt_dlp")


def test_what_is_no_plain_wheel_is_refused(tmp_path: Path) -> None:
    whole = archive(("yt_dlp/a.py", b"some text"))
    flipped = whole.replace(b"some text", b"some tex_")
    with pytest.raises(WheelError, match="cannot be unpacked"):
        Wheel(flipped, "yt_dlp").unpack(tmp_path / "flipped")
    with pytest.warns(UserWarning, match="Duplicate"):
        twice = archive(("yt_dlp/a.py", b"1"), ("yt_dlp/a.py", b"2"))
    with pytest.raises(FileExistsError):
        Wheel(twice, "yt_dlp").unpack(tmp_path / "twice")
    for content in (
        b"",
        b"no archive",
        whole[:-30],
        archive((link("yt_dlp/a"), b"/etc")),
        archive(*((f"yt_dlp/{number}", b"") for number in range(MAX_FILES))),
        archive(("yt_dlp-1.dist-info/METADATA", METADATA)),
    ):
        with pytest.raises(WheelError):
            Wheel(content, "yt_dlp")


def test_a_wheel_that_unpacks_to_far_more_is_refused() -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        file.writestr("yt_dlp/a.py", bytes(101 * 2**20))
    with pytest.raises(WheelError, match="too large"):
        Wheel(content.getvalue(), "yt_dlp")
