"""Bounds on the sizes of files, functions and signatures. Larger ones are hard to read, and must be split.

One test looks at all files and names those that are too large: a test for each file would cost more than its check.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
SOURCES: Final = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for folder in ("ytmp3", "tests", "scripts")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
MAX_FILE_LINES: Final = 400
MAX_FUNCTION_LINES: Final = 64
MAX_PARAMETERS: Final = 7
"""`self` and a settings value aside: neither is a choice of the caller."""


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Iterate over every function, with the file and the name of it."""
    for file, source in SOURCES.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{file}: {node.name}", node


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    arguments = function.args
    names = [argument.arg for argument in arguments.posonlyargs + arguments.args + arguments.kwonlyargs]
    return len([name for name in names if name not in {"self", "settings"}])


def test_no_file_is_too_long() -> None:
    assert not {file for file, source in SOURCES.items() if source.count("\n") > MAX_FILE_LINES}


def test_no_function_is_too_long_and_no_signature_too_wide() -> None:
    long, wide, seen = set(), set(), 0
    for name, function in functions():
        assert function.end_lineno is not None
        if function.end_lineno - function.lineno >= MAX_FUNCTION_LINES:
            long.add(name)
        if parameters(function) > MAX_PARAMETERS:
            wide.add(name)
        seen += 1
    assert (long, wide) == (set(), set())
    assert seen > len(SOURCES)
