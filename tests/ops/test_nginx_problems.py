"""nginx answers some errors itself, with the texts of the service."""

import re

import msgspec

from tests.ops.files import ROOT
from ytmp3.core.errors import RequestError
from ytmp3.http import errors
from ytmp3.http.wire import Problem

PROBLEMS = {
    int(status): msgspec.json.decode(document, type=Problem)
    for status, document in re.findall(
        r"^    (\d{3}) '(\{.*\})';$", (ROOT / "nginx/problems.conf").read_text(), re.MULTILINE
    )
}

SOUND_ELSEWHERE = (409, "not_ready")
"""The one error of nginx with a text of its own: only nginx knows that it has asked every instance for the sound."""


def test_every_problem_document_of_nginx_has_the_status_it_is_sent_with() -> None:
    assert len(PROBLEMS) >= 12
    assert {status: problem.status for status, problem in PROBLEMS.items()} == {status: status for status in PROBLEMS}
    assert all(problem.type == f"urn:ytmp3:error:{problem.code}" for problem in PROBLEMS.values())


def test_an_error_that_the_service_also_sends_has_the_same_text_from_nginx() -> None:
    kinds = [kind for kind in RequestError.__subclasses__() if kind.__module__ == errors.__name__]
    texts = {(int(kind.status), kind.code): kind.detail for kind in kinds}
    shared = {key: problem.detail for key, problem in _by_status_and_code().items() if key in texts}
    assert "No instance" in shared.pop(SOUND_ELSEWHERE)
    assert len(shared) >= 8
    assert shared == {key: texts[key] for key in shared}


def _by_status_and_code() -> dict[tuple[int, str], Problem]:
    return {(status, problem.code): problem for status, problem in PROBLEMS.items()}
