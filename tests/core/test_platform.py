"""The service says plainly that it needs Linux, before anything that only Linux has is used."""

import platform

import pytest

from ytmp3.cli import main


def test_another_system_than_linux_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    with pytest.raises(SystemExit) as ended:
        main(["serve"])
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("ytmp3: serving needs Linux.")
