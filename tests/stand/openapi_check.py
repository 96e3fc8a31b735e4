"""Loaded by schemathesis, also by its command: what holds for answers that the document does not list, nginx's too."""

from typing import Any

import schemathesis


@schemathesis.check
def is_in_our_words(
    context: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case[Any]
) -> None:
    """An error is a problem document that knows its status."""
    if response.status_code < 400:
        return
    assert response.headers["content-type"] == ["application/problem+json"], response.headers
    if case.method != "HEAD":
        assert response.json()["status"] == response.status_code
