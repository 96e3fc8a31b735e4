"""The Dockerfile, checked as text. `make image-test` builds and runs the image, without Docker."""

import fnmatch
import re

from tests.ops.files import ROOT, checked, program
from ytmp3.variables import VARIABLES

TEXT = (ROOT / "Dockerfile").read_text()
LINES = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE)).splitlines()
INSTRUCTIONS = [tuple(line.split(maxsplit=1)) for line in LINES if line.strip()]
LAST_STAGE = INSTRUCTIONS[max(i for i, (word, _) in enumerate(INSTRUCTIONS) if word == "FROM") :]


def last(word: str) -> str:
    (value,) = (value for name, value in LAST_STAGE if name == word)
    return " ".join(value.split())


def test_the_dockerfile_passes_hadolint() -> None:
    assert checked(program("hadolint"), "Dockerfile") == (0, "")


def test_the_last_stage_runs_no_command() -> None:
    assert "RUN" not in {word for word, _ in LAST_STAGE}
    assert all("--from=build" in value for word, value in LAST_STAGE if word == "COPY")


def test_every_stage_has_the_base_that_one_argument_names() -> None:
    assert {value.split()[0] for word, value in INSTRUCTIONS if word == "FROM"} == {"${PYTHON_IMAGE}"}
    assert re.search(r"^ARG PYTHON_IMAGE=python:3\.\d+-slim-\w+$", TEXT, re.MULTILINE)


def test_the_image_runs_as_a_numeric_user_with_tini_as_its_first_process() -> None:
    assert last("USER") == "10001:10001"
    assert last("ENTRYPOINT") == '["/usr/bin/tini", "--", "python", "-m", "ytmp3"]'
    assert last("CMD") == '["serve"]'
    assert last("STOPSIGNAL") == "SIGTERM"
    assert last("HEALTHCHECK").endswith('CMD ["python", "-m", "ytmp3", "health"]')


def test_the_environment_of_the_image_holds_settings_of_the_service_or_of_python() -> None:
    names = set(re.findall(r"(\w+)=", last("ENV")))
    assert names >= {"HOST", "PORT", "DATA_DIR"}
    assert names <= {variable.name for variable in VARIABLES} | {
        "PATH", "HOME", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "PYTHONSAFEPATH",
    }  # fmt: skip


def test_only_hash_pinned_wheels_are_installed() -> None:
    assert "--require-hashes --only-binary=:all:" in " ".join(TEXT.split()).replace(" \\ ", " ")


def test_the_build_context_holds_only_what_is_copied() -> None:
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert patterns[0] == "*"
    let_in = {line.removeprefix("!") for line in patterns if line.startswith("!")}
    copied = {
        source
        for word, value in INSTRUCTIONS
        if word == "COPY" and "--from" not in value
        for source in value.split()[:-1]
    }
    assert copied == let_in
    assert any(fnmatch.fnmatch("ytmp3/__pycache__", pattern) for pattern in patterns[1:])
