"""Bounds on the sizes of files, functions and signatures. Larger ones are hard to read, and must be split."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
FILES: Final = sorted(
    str(path.relative_to(ROOT)) for folder in ("ytmp3", "tests", "scripts") for path in (ROOT / folder).rglob("*.py")
)
MAX_FILE_LINES: Final = 400
MAX_FUNCTION_LINES: Final = 64
MAX_PARAMETERS: Final = 7
"""`self` and a settings value aside: neither is a choice of the caller."""


def functions(name: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("name", FILES)
def test_no_file_is_too_long(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8").count("\n") <= MAX_FILE_LINES


@pytest.mark.parametrize("name", FILES)
def test_no_function_is_too_long(name: str) -> None:
    for function in functions(name):
        assert function.end_lineno is not None
        assert function.end_lineno - function.lineno < MAX_FUNCTION_LINES, function.name


@pytest.mark.parametrize("name", FILES)
def test_no_signature_is_too_wide(name: str) -> None:
    for function in functions(name):
        arguments = function.args
        names = [argument.arg for argument in arguments.posonlyargs + arguments.args + arguments.kwonlyargs]
        assert len([name for name in names if name not in {"self", "settings"}]) <= MAX_PARAMETERS, function.name
