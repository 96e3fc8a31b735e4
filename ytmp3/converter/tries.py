"""Which try of a conversion follows a failed one: without a format that cannot be decoded, or with cookies."""

from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from msgspec import structs

from ytmp3.converter.conversion import ConversionTry
from ytmp3.converter.task import CookiesCopy, Task
from ytmp3.converter.tools import Tools
from ytmp3.converter.youtube.events import Facts
from ytmp3.converter.youtube.signs import Sign
from ytmp3.core.errors import ConversionError, FailureCode

P = ParamSpec("P")
T = TypeVar("T")

MORE_FORMATS: Final = 2
"""Most other formats of YouTube that are tried if one cannot be decoded."""


class Tries:
    """The tries of one conversion. `task` asks YouTube as a guest."""

    def __init__(self, tools: Tools, task: Task) -> None:
        self._files = tools.files
        self._account = tools.identities.account_of(task.identity)
        self._as_guest = task
        self._refusal: ConversionError | None = None
        """The error with which YouTube refused the guest; None: no guest was refused."""
        self._has_used_account = False

    async def first(self) -> Task:
        """Return the task of the first try."""
        if self._account is not None and await self._run(self._account.comes_first):
            return await self._run(self._with_cookies)
        return self._as_guest

    async def after(self, task: Task, conversion: ConversionTry, error: ConversionError) -> Task:
        """Return the task of the try that follows a failed one.

        Raises:
            ConversionError: there is none. It is the error of the conversion.
        """
        if conversion.may_try_another_format(error) and len(task.excluded_formats) < MORE_FORMATS:
            return await self._run(conversion.without_its_format)
        if task.cookies is not None:
            is_refused = await self.record_refusal(task.cookies, conversion.facts)
            if is_refused and self._refusal is None:
                return await self._run(self._as_guest_after_all)
            # The guest's error explains the failure better: the cookies only did not help.
            is_worse = is_refused or error.code is FailureCode.EXTRACTOR_BROKEN
            raise self._refusal if is_worse and self._refusal is not None else error
        other = await self.with_account(error)
        if other is None:
            raise error
        return other

    async def with_account(self, refusal: ConversionError) -> Task | None:
        """Return the task that asks with the account's cookies after a guest was refused; None if they cannot help."""
        if self._account is None or self._has_used_account:
            return None
        if not await self._run(self._account.may_help, refusal.code):
            return None
        self._refusal = refusal
        return await self._run(self._with_cookies)

    async def succeeded(self, task: Task, conversion: ConversionTry) -> None:
        """Record the success of the last try, and take over cookies that YouTube has renewed."""
        if self._account is None:
            return
        if task.cookies is None:
            self._account.guest_succeeded()
        elif not await self.record_refusal(task.cookies, conversion.facts):
            code = None if self._refusal is None else self._refusal.code
            await self._run(self._account.succeeded, task.cookies.content, task.cookies.path, code)

    async def _run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function that uses files in a thread."""
        try:
            return await self._files.run(function, *args, **kwargs)
        except OSError as error:
            raise ConversionError(FailureCode.STORAGE_FULL, f"{error.strerror}") from error

    async def record_refusal(self, cookies: CookiesCopy, facts: Facts | None) -> bool:
        """Return whether YouTube has refused the cookies, according to the child's report. If so, record it."""
        assert self._account is not None
        is_refused = facts is not None and facts.signs.get(Sign.COOKIES, 0) > 0
        if is_refused:
            await self._run(self._account.refused, cookies.content)
        return is_refused

    def _with_cookies(self) -> Task:
        assert self._account is not None
        self._has_used_account = True
        scratch = self._as_guest.scratch / "with-cookies"
        scratch.mkdir()
        path = scratch / "cookies"
        cookies = CookiesCopy(path=path, content=self._account.cookies.copy_to(path))
        # If the whole conversion is a repetition, its first try is one, too.
        is_repeated = self._as_guest.is_repeated or self._refusal is not None
        return structs.replace(self._as_guest, scratch=scratch, cookies=cookies, is_repeated=is_repeated)

    def _as_guest_after_all(self) -> Task:
        scratch = self._as_guest.scratch / "as-guest"
        scratch.mkdir()
        return structs.replace(self._as_guest, scratch=scratch, is_repeated=True)
