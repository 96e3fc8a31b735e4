"""The keys file is refused if every user may change it."""

import logging
from pathlib import Path

import pytest

from ytmp3.http.keys import KeyFileError, digest_of
from ytmp3.http.keys_file import read_keys_file


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(f"someone {digest_of('ytmp3_secret').hex()}\n")
    return path


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o440, 0o644])
def test_a_file_that_only_its_owner_may_write_is_accepted(
    keys: Path, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    keys.chmod(mode)
    assert [key.name for key in read_keys_file(keys)] == ["someone"]
    assert not caplog.records


@pytest.mark.parametrize("mode", [0o602, 0o666, 0o777])
def test_a_file_that_every_user_may_write_is_refused(keys: Path, mode: int) -> None:
    keys.chmod(mode)
    with pytest.raises(KeyFileError, match=f"every user may write it, and so make keys: chmod 600 {keys}"):
        read_keys_file(keys)


def test_a_file_that_its_group_may_write_causes_a_warning(keys: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys.chmod(0o664)
    with caplog.at_level(logging.WARNING):
        assert read_keys_file(keys)
    assert [record.message for record in caplog.records] == ["the group of the keys file may write it"]


def test_a_missing_file_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="No such file or directory"):
        read_keys_file(tmp_path / "missing")
