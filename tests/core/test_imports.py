"""Imports go one way between packages, `core` has no I/O, and importing a module starts nothing.

The tests read the syntax trees of the package, so they also see imports inside functions. Each looks at all modules
and names those that break its rule: a test for each module would cost more than its check.
"""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "ytmp3"

LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"core", "file_sync", "threads"}),
    frozenset({"jobstore", "storage", "converter", "log_stream", "logs", "setting_files", "setting_forms"}),
    frozenset({"youtube_variables", "storage_variables", "redis_variables"}),
    frozenset({"variables"}),
    frozenset({"engine"}),
    frozenset({"metrics", "webhooks"}),
    frozenset({"http"}),
    frozenset({"config", "gauges", "identities_file"}),
    frozenset({"app", "greeting"}),
    frozenset({"serve", "doctor_budget"}),
    frozenset({"client", "cli_arguments"}),
    frozenset({"cli"}),
    frozenset({"__main__"}),
)
"""The packages and top-level modules, lowest first: each imports only from layers below its own, and from itself."""

PROTOCOLS = frozenset({"jobstore", "storage", "converter"})
NOT_ADAPTERS = frozenset(
    {
        *("storage.files", "storage.scratch", "jobstore.sqlite.backup", "jobstore.outbox", "jobstore.batches"),
        "jobstore.found",
        *("converter.doctor", "converter.doctor_report", "converter.releases.commands"),
        "converter.live_sound",
    }
)
"""Used whatever the adapter: work in progress is always in a local folder, and commands on the embedded store's file
are for that file only; `ytmp3 doctor` and `ytmp3 extractor` are commands for one converter. `jobstore.outbox`,
`jobstore.batches` and `jobstore.found` are parts of the Protocol, and so is `converter.live_sound`."""
IMPURE = frozenset(
    {
        "asyncio", "concurrent", "contextvars", "datetime", "fcntl", "glob", "io", "logging", "multiprocessing", "os",
        "pathlib", "queue", "random", "secrets", "select", "selectors", "shutil", "signal", "socket", "sqlite3", "ssl",
        "subprocess", "sys", "tempfile", "threading", "time", "urllib.request", "uuid",
    }
)  # fmt: skip
"""Modules for time, randomness and the system, which the core must not import."""
CONSTANTS = frozenset({"datetime.UTC"})
"""Names in such modules that are allowed, because they are constants."""


def modules() -> dict[str, Path]:
    """Return the path of every module by its dotted name below `ytmp3`."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = path
    return found


MODULES = modules()


@cache
def tree_of(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


@cache
def imports_of(name: str) -> frozenset[str]:
    """Return every imported name, dotted."""
    names: set[str] = set()
    for node in ast.walk(tree_of(name)):
        match node:
            case ast.Import():
                names.update(alias.name for alias in node.names)
            case ast.ImportFrom(level=level, module=module):
                assert level == 0, f"{name}: a relative import"
                names.update(f"{module}.{alias.name}" for alias in node.names)
    return frozenset(names)


@cache
def own_imports_of(name: str) -> frozenset[str]:
    """Return the imported modules of this package, dotted below `ytmp3`."""
    own = set()
    for imported in imports_of(name):
        root, _, rest = imported.partition(".")
        if root == "ytmp3":
            own.add(next((m for m in _prefixes(rest) if m in MODULES), "__init__"))
    return frozenset(own - {"__init__"})


def _prefixes(dotted: str) -> list[str]:
    parts = dotted.split(".")
    return [".".join(parts[:length]) for length in range(len(parts), 0, -1)]


def modules_of(*packages: str) -> list[str]:
    """Return the names of the modules in some packages, the packages themselves included; there is at least one."""
    found = [name for name in MODULES if name.startswith(tuple(f"{package}." for package in packages))]
    found += [package for package in packages if package in MODULES]
    assert found
    return found


def layer_of(name: str) -> int:
    package = name.partition(".")[0]
    return next(layer for layer, packages in enumerate(LAYERS) if package in packages)


def test_every_package_has_a_layer() -> None:
    assert {name.partition(".")[0] for name in MODULES} == frozenset().union(*LAYERS)


def is_allowed(name: str, imported: str) -> bool:
    """Return whether a module may import another one of this package."""
    package, other = name.partition(".")[0], imported.partition(".")[0]
    if other != package:
        return layer_of(imported) < layer_of(name)
    # A Protocol does not know its adapters.
    return name not in PROTOCOLS or imported == f"{name}.settings" or imported in NOT_ADAPTERS


def test_a_module_imports_only_from_lower_layers_and_its_own_package() -> None:
    pairs = [(name, imported) for name in MODULES for imported in own_imports_of(name)]
    assert pairs
    assert not [pair for pair in pairs if not is_allowed(*pair)]


def test_the_client_uses_only_the_standard_library_and_its_own_package() -> None:
    for name in modules_of("client"):
        assert {imported.partition(".")[0] for imported in own_imports_of(name)} <= {"client"}, name
        roots = {imported.partition(".")[0] for imported in imports_of(name)}
        assert roots - {"ytmp3"} <= sys.stdlib_module_names, name


def test_the_library_of_object_stores_is_loaded_only_where_a_bucket_is_used() -> None:
    assert {name for name in MODULES if "obstore" in {i.partition(".")[0] for i in imports_of(name)}} == {
        "storage.s3_requests"
    }
    assert {name for name in MODULES if "storage.s3_requests" in own_imports_of(name)} == {"storage.s3"}
    assert {name for name in MODULES if "storage.s3" in own_imports_of(name)} == {"app"}
    top_level = [node.module for node in tree_of("app").body if isinstance(node, ast.ImportFrom)]
    assert "ytmp3.storage.s3" not in top_level


def test_no_modules_import_each_other_in_a_cycle() -> None:
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join([*above, name])
        if name not in done:
            for imported in own_imports_of(name):
                visit(imported, (*above, name))
            done.add(name)

    for name in MODULES:
        visit(name, ())


def is_adapter(name: str, imported: str) -> bool:
    """Return whether the imported module is an adapter of another package than the module's own."""
    package, below = imported.partition(".")[::2]
    return (
        package in PROTOCOLS - {name.partition(".")[0]}
        and bool(below)
        and imported not in NOT_ADAPTERS
        and not imported.endswith(".settings")
    )


def test_only_app_and_the_doctor_import_the_adapters() -> None:
    importing = {name for name in MODULES if any(is_adapter(name, imported) for imported in own_imports_of(name))}
    assert importing <= {"app", "config", "doctor_budget"}
    assert "app" in importing


def test_the_core_uses_no_clock_no_randomness_and_no_system_call() -> None:
    for name in modules_of("core"):
        for imported in imports_of(name) - CONSTANTS:
            assert not IMPURE & set(_prefixes(imported)), f"{name} imports {imported}"
            root = imported.partition(".")[0]
            assert root in {"ytmp3", "msgspec"} or root in sys.stdlib_module_names, f"{name} imports {imported}"
        for node in ast.walk(tree_of(name)):
            assert not isinstance(node, ast.AsyncFunctionDef | ast.Await), name
            assert not (isinstance(node, ast.Name) and node.id in {"open", "input", "print"}), name


def test_the_sandbox_and_the_audio_packages_know_nothing_about_youtube() -> None:
    for name in modules_of("converter.sandbox", "converter.audio"):
        assert not {imported for imported in own_imports_of(name) if imported.startswith("converter.youtube")}, name


def test_only_the_modules_that_start_the_service_know_the_config() -> None:
    assert {name for name in MODULES if "config" in own_imports_of(name)} == {"app", "greeting", "serve", "cli"}


def test_the_config_imports_only_settings_and_the_core() -> None:
    for imported in own_imports_of("config"):
        assert imported == "variables" or imported.endswith(".settings") or imported.startswith("core."), imported


def test_the_command_line_loads_nothing_that_only_the_service_needs() -> None:
    heavy = [
        "aiohttp",
        "asyncio",
        "obstore",
        "orjson",
        "prometheus_client",
        "redis",
        "sqlite3",
        "ssl",
        "urllib.request",
        "yt_dlp",
    ]
    program = f"import sys, ytmp3.cli; print([name for name in {heavy} if name in sys.modules])"
    loaded = subprocess.run(
        [sys.executable, "-c", program], cwd=PACKAGE.parent, capture_output=True, text=True, timeout=600, check=True
    )
    assert loaded.stdout == "[]\n"


def _calls(name: str) -> set[str]:
    return {ast.unparse(node.func) for node in ast.walk(tree_of(name)) if isinstance(node, ast.Call)}


def test_only_the_command_line_and_the_client_print_and_exit() -> None:
    endings = {"print", "exit", "quit", "sys.exit", "sys.stdout.write", "input"}
    assert {name for name in MODULES if endings & _calls(name)} == {"cli", "client.__main__", "client.commands"}
    # Only code that runs in a forked child may write to its stderr, or end its process; the server process never does.
    # One exception: a drained server that hangs in a call of the file system (`serve`).
    assert {name for name in MODULES if "sys.stderr.write" in _calls(name)} == {
        "converter.youtube.download",
        "converter.youtube.extractor",
    }
    assert {name for name in MODULES if "os._exit" in _calls(name)} == {
        "converter.sandbox.confinement",
        "converter.sandbox.limits",
        "converter.sandbox.zygote",
        "serve",
    }


def is_definition(node: ast.stmt) -> bool:
    """Return whether a statement at the top level of a module only defines something, or is its entry."""
    is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    is_entry = isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)
    definition = ast.Import | ast.ImportFrom | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    return isinstance(node, definition | ast.Assign | ast.AnnAssign) or is_docstring or is_entry


def test_the_top_level_of_a_module_contains_only_definitions() -> None:
    for name in MODULES.keys() - {"__main__"}:
        for node in tree_of(name).body:
            assert is_definition(node), f"{name}:{node.lineno}"


PROBE = r"""
import importlib, os, sys, threading
import aiohttp, asyncio, prometheus_client, aiohttplimiter, limits, obstore, redis.asyncio, yt_dlp, deno, orjson
import imageio_ffmpeg
from aiohttp import web
happened = []

def hook(event, arguments):
    if event in {"subprocess.Popen", "os.fork", "os.posix_spawn", "socket.connect", "socket.bind", "sqlite3.connect",
                 "os.mkdir", "os.remove", "os.rename", "signal.signal"}:
        happened.append((event, repr(arguments)))
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
        happened.append((event, repr(arguments)))

def descriptors():
    return sorted(os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
                  if os.path.islink(f"/proc/self/fd/{fd}"))

before = len(descriptors())
sys.dont_write_bytecode = True
sys.addaudithook(hook)
for name in sys.argv[1:]:
    importlib.import_module("ytmp3." + name)
assert not happened, happened
assert threading.active_count() == 1, threading.enumerate()
assert len(descriptors()) == before, descriptors()
"""


def test_importing_every_module_starts_nothing_and_opens_nothing() -> None:
    names = sorted(set(MODULES) - {"__main__"})
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *names],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_no_function_rebinds_a_global_name() -> None:
    for name in MODULES:
        assert not [node for node in ast.walk(tree_of(name)) if isinstance(node, ast.Global)], name
