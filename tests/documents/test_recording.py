"""docs/demo.svg shows a session of `make demo` with the API as it is today."""

import re
import xml.etree.ElementTree as ET

import msgspec

from tests.documents.pages import ROOT
from ytmp3.http.wire import JobView

SVG = "{http://www.w3.org/2000/svg}"
REMAKE = "run make demo RECORD=docs/demo.svg"


def shown_lines() -> list[str]:
    root = ET.parse(ROOT / "docs/demo.svg").getroot()
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def test_the_recording_shows_a_whole_session() -> None:
    lines = shown_lines()
    assert lines[0] == "$ make demo"
    commands = [line for line in lines if line.startswith("$ curl")]
    assert [path for command in commands for path in re.findall(r"/(extract|status|download)\b", command)] == [
        "extract",
        "status",
        "download",
    ]
    assert "SHA-256" in lines[-1]


def test_the_recording_shows_every_field_of_a_job() -> None:
    shown = set(re.findall(r'^"(\w+)":', "\n".join(shown_lines()), re.MULTILINE))
    assert {field.name for field in msgspec.structs.fields(JobView)} <= shown, REMAKE


def test_the_recording_needs_nothing_from_elsewhere() -> None:
    text = (ROOT / "docs/demo.svg").read_text()
    assert "<script" not in text
    assert not re.search(r'(?:href|src|url)\s*[=(]\s*["\']?https?:', text)
