"""No coroutine calls the file system: on a disk that hangs, such a call would stop the event loop.

The test reads the syntax trees of the package. A function is blocking if it calls the file system, or a blocking
function of the same module. A coroutine may pass a blocking function to a thread, but must not call it: neither one of
its own module, nor one of another module, if only blocking functions have that name.
"""

import ast
from collections.abc import Iterator

from tests.core.test_imports import MODULES, tree_of

CALLS = frozenset(
    {
        "access", "chmod", "chown", "copyfile", "copytree", "exists", "fsync", "glob", "hardlink_to", "is_dir",
        "is_file", "is_symlink", "iterdir", "link", "listdir", "lstat", "mkdir", "open", "preadv", "pread", "pwrite",
        "read_bytes", "read_text", "readlink", "rename", "replace_file", "rglob", "rmdir", "rmtree", "samefile",
        "scandir", "stat", "statvfs", "symlink_to", "touch", "truncate", "unlink", "utime", "write_bytes", "write_text",
        "splice", "disk_usage", "mkstemp", "mkdtemp",
    }
)  # fmt: skip
"""Names of functions and methods that call the file system."""
ELSEWHERE = (
    "converter.doctor",
    "converter.releases",
    "converter.youtube",
    "jobstore.sqlite.backup",
    "converter.sandbox.zygote",
    "webhooks.trial",
)
"""Programs that serve nobody: the youtube child, the zygote, and commands."""
IN_THE_SERVER = ("converter.youtube.fetch", "converter.youtube.ladder")
ALLOWED = {
    ("app", "running"): {"read_keys"},  # at the start: nothing is served yet
    ("converter.check", "_check_ffmpeg"): {"pread"},  # of a file in memory
    ("converter.check", "_run_once"): {"pwrite"},  # of a file in memory
    ("converter.solver.processes", "parse"): {"pwrite"},  # of a file in memory
    ("converter.youtube.fetch", "start"): {"open"},  # of permits
    ("engine.listening", "find"): {"open"},  # of a subscription
    ("http.api", "events"): {"open"},  # of an event stream
    ("http.batch_events", "events"): {"open"},  # of an event stream
    ("http.file_sending", "send"): {"open", "_is_cached"},  # wraps an open descriptor; reads only what is in memory
    ("http.stats", "collect"): {"resident_bytes"},  # of /proc
}
"""Calls that cannot hang."""


def server_modules() -> list[str]:
    return [name for name in MODULES if name in IN_THE_SERVER or not name.startswith(ELSEWHERE)]


def name_of(call: ast.Call) -> str | None:
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return None


def calls_in(function: ast.AST) -> Iterator[ast.Call]:
    """Iterate over the calls that the function itself makes, and that it does not await."""
    awaited = {id(node.value) for node in ast.walk(function) if isinstance(node, ast.Await)}
    awaited |= {
        id(item.context_expr) for node in ast.walk(function) if isinstance(node, ast.AsyncWith) for item in node.items
    }
    pending: list[ast.AST] = list(ast.iter_child_nodes(function))
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.Call) and id(node) not in awaited:
            yield node
        pending += ast.iter_child_nodes(node)


def blocking_functions(tree: ast.Module) -> set[str]:
    """Return the names of the plain functions of a module that call the file system."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    blocking: set[str] = set()
    while True:
        found = {
            function.name
            for function in functions
            if any(name_of(call) in CALLS | blocking for call in calls_in(function))
        }
        if found <= blocking:
            return blocking
        blocking |= found


def known_as_blocking() -> set[str]:
    """Return the names that only blocking functions have, in all modules of the server."""
    blocking, others = set[str](), set[str]()
    for module in server_modules():
        tree = tree_of(module)
        names = blocking_functions(tree)
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        blocking |= names
        others |= {each.name for each in functions if isinstance(each, ast.AsyncFunctionDef) or each.name not in names}
    return blocking - others


KNOWN_AS_BLOCKING = known_as_blocking()


def test_no_coroutine_calls_the_file_system() -> None:
    for module in server_modules():
        tree = tree_of(module)
        names = CALLS | KNOWN_AS_BLOCKING | blocking_functions(tree)
        for function in ast.walk(tree):
            if isinstance(function, ast.AsyncFunctionDef):
                called = {name for call in calls_in(function) if (name := name_of(call)) in names}
                assert called <= ALLOWED.get((module, function.name), set()), f"{module}.{function.name}"


def test_a_blocking_call_in_a_coroutine_is_found() -> None:
    source = """
def size(path): return path.stat().st_size
async def one(path): return size(path)
async def two(path): await threads.run(size, path)
"""
    tree = ast.parse(source)
    names = CALLS | blocking_functions(tree)
    called = {
        function.name: [name_of(call) for call in calls_in(function) if name_of(call) in names]
        for function in ast.walk(tree)
        if isinstance(function, ast.AsyncFunctionDef)
    }
    assert called == {"one": ["size"], "two": []}
