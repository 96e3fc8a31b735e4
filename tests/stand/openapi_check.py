"""A check that schemathesis loads, in the tests and in its command: every error is a problem document.

It holds also for responses that the OpenAPI document does not list, such as those of nginx.
"""

from typing import Any

import schemathesis


@schemathesis.check
def error_is_a_problem_document(
    context: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case[Any]
) -> None:
    """Assert that an error response is a problem document with the status of the response."""
    if response.status_code < 400:
        return
    assert response.headers["content-type"] == ["application/problem+json"], response.headers
    if case.method != "HEAD":
        assert response.json()["status"] == response.status_code
