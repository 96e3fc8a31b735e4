"""The accounts of identities: when their cookies are used, and the record of how YouTube receives them.

Guests are asked first. An account is asked for a video for which guests are asked to log in (ASKS_FOR_LOGIN). While
guests are refused all the time, the account is asked at once, except by one conversion every few minutes.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ytmp3.converter.cookies import Cookies
from ytmp3.converter.youtube.ladder import Record
from ytmp3.core.errors import FailureCode

ASKS_FOR_LOGIN: Final = frozenset({FailureCode.AGE_RESTRICTED, FailureCode.BOT_CHECK})
"""Refusals of guests that an account may not get. Videos that only some accounts may see are not made public."""

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
        """How many conversions had these cookies refused."""

    def comes_first(self) -> bool:
        """Whether guests are refused all the time, so that this conversion does not ask as one."""
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
