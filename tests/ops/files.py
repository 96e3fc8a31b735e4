"""The deployment files as the tests read them: parsed, with the variables of Compose replaced by their values."""

import re
import subprocess
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).resolve().parents[2]
_VARIABLE: Final = re.compile(r"\$\{([A-Z][A-Z0-9_]*)(?::-([^}]*))?\}")

Document = dict[str, Any]


def program(name: str) -> str:
    """Return the path of a program that a development package installed."""
    return str(Path(sysconfig.get_path("scripts"), name))


def checked(*command: str) -> tuple[int, str]:
    """Run a checker in the root of the repository; return its exit code and its output."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    return done.returncode, done.stdout + done.stderr


def documents(path: Path) -> list[Document]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document is not None]


def document(path: Path) -> Document:
    (only,) = documents(path)
    return only


def variables(text: str) -> dict[str, str]:
    """Return the variables of a Compose file with their defaults."""
    found: dict[str, str] = {}
    for name, default in _VARIABLE.findall(text):
        assert found.setdefault(name, default) == default, f"{name} has two defaults"
    return found


def interpolated(text: str, environ: Mapping[str, str]) -> Document:
    """Return the file with its variables replaced, by Compose's rule: an unset or empty variable has its default."""
    filled = _VARIABLE.sub(lambda match: environ.get(match[1]) or match[2] or "", text)
    assert "${" not in filled, "a form of substitution that this function does not know"
    parsed: Document = yaml.safe_load(filled)
    return parsed


COMPOSE_TEXT: Final = (ROOT / "docker-compose.yml").read_text()


def compose(**environ: str) -> Document:
    return interpolated(COMPOSE_TEXT, environ)


def manifests() -> Iterator[Document]:
    """Yield the objects that `kubectl apply -f k8s/` would create."""
    for path in sorted((ROOT / "k8s").iterdir()):
        if path.suffix in {".yaml", ".yml", ".json"}:
            yield from documents(path)


def manifest(kind: str, name: str) -> Document:
    (only,) = (one for one in manifests() if one["kind"] == kind and one["metadata"]["name"] == name)
    return only
