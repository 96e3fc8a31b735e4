"""The rules of ruff that pyproject.toml switches off: each suppresses something, and each has its reason beside it."""

import fnmatch
import json
import re
import subprocess
import tomllib
from collections import defaultdict
from typing import Any

import pytest

from tests.ops.files import ROOT, program

TEXT = (ROOT / "pyproject.toml").read_text()
LINT: dict[str, Any] = tomllib.loads(TEXT)["tool"]["ruff"]["lint"]
IGNORED: list[str] = LINT["ignore"]
IGNORED_IN: dict[str, list[str]] = LINT["per-file-ignores"]


@pytest.fixture(scope="module")
def findings() -> dict[str, set[str]]:
    """The rules that would report something if none was switched off, and in which files."""
    select = ",".join({*IGNORED, *(code for codes in IGNORED_IN.values() for code in codes)})
    options = [
        "lint.pydocstyle.convention='google'", "target-version='py311'", "line-length=120", "exclude=['.venv']",
        f"lint.pylint.max-args={LINT['pylint']['max-args']}",
    ]  # fmt: skip
    command = [program("ruff"), "check", "--isolated", "--no-cache", "--output-format", "json", "--select", select, "."]
    for option in options:
        command += ["--config", option]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    found: defaultdict[str, set[str]] = defaultdict(set)
    for finding in json.loads(done.stdout):
        found[finding["code"]].add(finding["filename"].removeprefix(f"{ROOT}/"))
    return found


def files_of(findings: dict[str, set[str]], rule: str) -> set[str]:
    """Where a rule, or a family of rules such as `CPY`, would report something."""
    return {file for code, files in findings.items() if re.fullmatch(rf"{rule}\d*", code) for file in files}


@pytest.mark.parametrize("rule", IGNORED)
def test_an_ignored_rule_suppresses_something(rule: str, findings: dict[str, set[str]]) -> None:
    assert files_of(findings, rule)


@pytest.mark.parametrize("rule", IGNORED)
def test_an_ignored_rule_has_a_reason(rule: str) -> None:
    assert re.search(rf'^    "{rule}", +# \w', TEXT, re.MULTILINE)


@pytest.mark.parametrize("pattern", IGNORED_IN)
def test_the_rules_ignored_in_some_files_suppress_something_there(pattern: str, findings: dict[str, set[str]]) -> None:
    for rule in IGNORED_IN[pattern]:
        assert any(fnmatch.fnmatch(file, pattern) for file in files_of(findings, rule)), rule
