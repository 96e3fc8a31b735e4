"""`ytmp3 completion` and `ytmp3 man`."""

import asyncio
from pathlib import Path

import pytest

from tests.http.client_commands import ytmp3

ASK = """
COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _ytmp3; printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("ytmp3 st", ["status"]),
        ("ytmp3 ser", ["serve"]),
        ("ytmp3 get --qu", ["--quality"]),
        ("ytmp3 get --format ''", ["mp3", "m4a", "opus"]),
        ("ytmp3 get -f o", ["opus"]),
        ("ytmp3 jobs --num", ["--number"]),
        ("ytmp3 lis", ["listen"]),
        ("ytmp3 listen --pl", ["--player"]),
        ("ytmp3 get -i li", ["links.txt"]),
        ("ytmp3 jobs --qu", [""]),
    ],
)
async def test_bash_completes_commands_options_and_files(
    words: str, expected: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await ytmp3("completion") == 0
    script = capsys.readouterr().out + ASK.format(words=words)
    (tmp_path / "links.txt").touch()
    bash = await asyncio.create_subprocess_exec("bash", "-c", script, cwd=tmp_path, stdout=asyncio.subprocess.PIPE)
    printed, _ = await bash.communicate()
    assert printed.decode().split("\n")[:-1] == expected


async def test_the_man_page_has_every_command_and_no_accidental_markup(capsys: pytest.CaptureFixture[str]) -> None:
    assert await ytmp3("man") == 0
    lines = capsys.readouterr().out.splitlines()
    for command in ("GET", "LISTEN", "STATUS", "JOBS", "CANCEL", "SERVE"):
        assert f".SH YTMP3 {command}" in lines
    assert r".B \-q Q, \-\-quality Q" in lines
    assert {line.split()[0] for line in lines if line.startswith((".", "'"))} == {
        ".TH",
        ".SH",
        ".B",
        ".PP",
        ".TP",
        ".nf",
        ".fi",
    }
