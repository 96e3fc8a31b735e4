"""The accounts of identities: when their cookies are used, and whether YouTube accepts them.

A conversion asks YouTube as a guest first, without cookies. If YouTube then asks for a login (ASKS_FOR_LOGIN), the
conversion asks again with the cookies of the account. If that was necessary several times in a row because guests were
taken for bots (`ladder.FAILURES_TO_SKIP`), conversions use the cookies at once for some minutes (`SKIP_SECONDS`).
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ytmp3.converter.cookies import Cookies
from ytmp3.converter.youtube.ladder import Record
from ytmp3.core.errors import FailureCode

ASKS_FOR_LOGIN: Final = frozenset({FailureCode.AGE_RESTRICTED, FailureCode.BOT_CHECK})
"""Failures of a guest after which an account may succeed. Private videos are not among them: the service must not
publish videos that only some accounts may see."""

logger = logging.getLogger(__name__)


class Account:
    """The account of one identity. Methods block, because they use the file of cookies. `clock` is in seconds."""

    def __init__(self, identity: str, path: Path, clock: Callable[[], float]) -> None:
        self._identity = identity
        self._clock = clock
        self._guests = Record()
        self.path = path
        self.cookies = Cookies(path, clock)
        self.refusals = 0
        """Number of conversions in which YouTube refused these cookies."""

    def comes_first(self) -> bool:
        """Whether guests were refused so often that this conversion uses the cookies at once."""
        return not self._guests.is_tried(self._clock()) and self.cookies.are_usable()

    def may_help(self, code: FailureCode) -> bool:
        """Whether the account may succeed after this refusal of a guest."""
        return code in ASKS_FOR_LOGIN and self.cookies.are_usable()

    def guest_succeeded(self) -> None:
        """Record that a conversion needed no account."""
        self._guests = Record()

    def succeeded(self, given: bytes, copy: Path, refusal: FailureCode | None) -> None:
        """Record that a conversion with a copy of the cookies `given` has succeeded.

        `refusal` is how guests were refused before; None: no guest was tried.
        """
        if refusal is FailureCode.BOT_CHECK:
            self._guests.failed(self._clock())
        self.cookies.accepted(given, copy)

    def refused(self, given: bytes) -> None:
        """Record that YouTube has refused the cookies `given`."""
        self.refusals += 1
        if self.cookies.refused(given):
            remedy = "export them again from a signed-in browser"
            logger.warning("cookies refused", extra={"identity": self._identity, "remedy": remedy})
