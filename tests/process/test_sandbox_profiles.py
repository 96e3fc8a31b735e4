"""The profiles: what each kind of child process may reach, and what no profile contains."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.stand.pipeline import FFMPEG
from ytmp3.converter.profiles import is_script, profiles_of, tool_profile, youtube_profile
from ytmp3.converter.settings import ToolSettings

SETTINGS = ToolSettings(
    ffmpeg_path=None,
    egress_proxy=None,
    egress_ca_file=None,
    cookies_file=Path("/files/cookies"),
    extract_concurrency=1,
    encode_concurrency=1,
)


def test_ffmpeg_and_deno_execute_themselves_and_write_nothing() -> None:
    profile = tool_profile("/opt/ffmpeg/bin/ffmpeg")
    assert profile.programs[0] == "/opt/ffmpeg/bin/ffmpeg"
    assert all("/ld-" in interpreter for interpreter in profile.programs[1:])
    assert "/opt/ffmpeg/lib" in profile.readable, "its own libraries"
    assert (profile.writable, profile.ports, profile.starts_programs) == ((), (), False)


def test_no_profile_contains_home_folders_or_files_of_the_operator() -> None:
    profile = youtube_profile(SETTINGS, deno="/usr/bin/deno")
    for path in (*tool_profile(FFMPEG).readable, *profile.readable):
        assert path not in {"/", "/etc", "/home", "/root", "/tmp", "/proc", "/sys", "/dev", "/var", "/files", "/usr"}
        assert not path.startswith(("/files", "/proc", "/sys", "/var"))
    assert str(Path(__file__).resolve().parents[2]) not in profile.readable, "the project's folder may hold the data"


@pytest.mark.parametrize(
    ("proxy", "ports"),
    [
        (None, (53, 443)),
        ("http://user:pw@proxy.example:3128", (53, 3128)),
        ("http://proxy.example", (53, 80)),
        ("socks5h://[::1]", (53, 1080)),
    ],
)
def test_the_youtube_child_connects_to_one_service_only(proxy: str | None, ports: tuple[int, ...]) -> None:
    profile = youtube_profile(replace(SETTINGS, egress_proxy=proxy), deno=None)
    assert profile.ports == ports
    assert profile.programs == ()
    assert not profile.may_bind
    assert youtube_profile(replace(SETTINGS, egress_source_address="192.0.2.1"), deno=None).may_bind


def test_a_script_in_the_place_of_ffmpeg_has_no_profile(tmp_path: Path) -> None:
    script = tmp_path / "ffmpeg"
    script.write_text("#!/bin/sh\n")
    assert profiles_of(SETTINGS, ffmpeg=str(script), deno=None).ffmpeg is None
    assert profiles_of(SETTINGS, ffmpeg=FFMPEG, deno=None).ffmpeg == tool_profile(FFMPEG)
    assert not is_script(str(tmp_path / "missing"))
