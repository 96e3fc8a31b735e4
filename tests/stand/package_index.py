"""A package index on loopback with wheels that are made for a test: releases of yt-dlp, good ones and broken ones."""

import contextlib
import hashlib
import http.server
import io
import json
import threading
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import yt_dlp
import yt_dlp_ejs

SOLVER: Final = "0.8.0"
"""The version of yt-dlp-ejs that the installed yt-dlp accepts."""
_SITES: Final = {
    "__init__", "adobepass", "afreecatv", "common", "commonmistakes", "extractors", "lazy_extractors", "openload",
}  # fmt: skip
"""The modules of `yt_dlp.extractor` that an extraction at YouTube loads; those of other sites are left out."""


def package_files(package: Path) -> dict[str, bytes]:
    """Return the files of an installed package, by their path in a wheel."""
    found = {}
    for path in sorted(package.rglob("*")):
        name = path.relative_to(package.parent)
        is_site = name.parent.parts == ("yt_dlp", "extractor") and name.stem not in _SITES
        if path.is_file() and path.suffix not in {".pyc", ".pyi"} and not is_site:
            found[str(name)] = path.read_bytes()
    return found


def extractor_files(version: str) -> dict[str, bytes]:
    """Return the files of the installed yt-dlp, as if it were this version."""
    files = package_files(Path(yt_dlp.__file__).parent)
    old = files["yt_dlp/version.py"]
    files["yt_dlp/version.py"] = old + f"\n__version__ = '{version}'\n".encode()
    return files


def solver_files() -> dict[str, bytes]:
    return package_files(Path(yt_dlp_ejs.__file__).parent)


def wheel(name: str, version: str, files: Mapping[str, bytes], *requirements: str) -> bytes:
    """Return a wheel, without compression, which would cost time."""
    metadata = f"{name.replace('-', '_')}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", "Requires-Python: >=3.10"]
    lines += [f"Requires-Dist: {each}" for each in requirements]
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path, body in {
            **files,
            f"{metadata}/METADATA": "\n".join(lines).encode(),
            f"{metadata}/RECORD": b"",
        }.items():
            archive.writestr(path, body)
    return content.getvalue()


def extractor_wheel(version: str, files: Mapping[str, bytes], solver: str = SOLVER) -> bytes:
    return wheel("yt-dlp", version, files, "brotli; extra == 'default'", f"yt-dlp-ejs=={solver}; extra == 'default'")


@dataclass
class PackageIndex:
    """The wheels of an index. It may lie about their hashes."""

    url: str = ""
    wheels: dict[str, bytes] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    """Hashes that are not those of the wheels."""
    yanked: set[str] = field(default_factory=set)
    uploaded: dict[str, str] = field(default_factory=dict)
    """When files were uploaded, by file name: ISO 8601. Without an entry, the index does not say it."""
    is_html: bool = False
    asked: list[str] = field(default_factory=list)
    authorization: str = ""
    """The header without which everything is refused; empty: none is needed."""
    files_at: str = "../.."
    """The URL below which the pages say that the files are."""
    given: list[str] = field(default_factory=list)
    """The Authorization of each request; empty: it had none."""

    def add(self, name: str, version: str, content: bytes) -> None:
        self.wheels[f"{name.replace('-', '_')}-{version}-py3-none-any.whl"] = content

    def answer(self, path: str) -> tuple[str, bytes] | None:
        """Return the media type and the body for a path; None if there is nothing."""
        self.asked.append(path)
        parts = path.strip("/").split("/")
        if parts[0] == "files":
            content = self.wheels.get(parts[1])
            return None if content is None else ("application/octet-stream", content)
        project = parts[-1].replace("-", "_")
        names = [name for name in self.wheels if name.startswith(f"{project}-")]
        hashes = {name: self.hashes.get(name) or hashlib.sha256(self.wheels[name]).hexdigest() for name in names}
        if self.is_html:
            links = "".join(
                f'<a href="{self.files_at}/files/{name}#sha256={hashes[name]}"'
                f"{' data-yanked' * (name in self.yanked)}>{name}</a>"
                for name in names
            )
            return "text/html", links.encode()
        files = [
            {
                "filename": name,
                "url": f"{self.files_at}/files/{name}",
                "hashes": {"sha256": hashes[name]},
                "yanked": name in self.yanked,
                **({"upload-time": self.uploaded[name]} if name in self.uploaded else {}),
            }
            for name in names
        ]
        return "application/vnd.pypi.simple.v1+json", json.dumps(
            {"meta": {"api-version": "1.1"}, "files": files}
        ).encode()


@contextlib.contextmanager
def package_index() -> Iterator[PackageIndex]:
    """Serve an index from a thread until the block ends."""
    index = PackageIndex()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = self.headers.get("Authorization", "")
            index.given.append(given)
            is_refused = given != index.authorization != ""
            found = None if is_refused else index.answer(self.path)
            self.send_response(401 if is_refused else 404 if found is None else 200)
            kind, body = found or ("text/plain", b"nothing")
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    index.url = f"http://127.0.0.1:{server.server_port}/simple"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield index
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
