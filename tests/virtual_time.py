"""An event loop whose clock does not run: when nothing is ready, it jumps to the next timer.

A test that lets an hour pass takes no time, and on a busy machine it does exactly the same as on an idle one. A proof
that something does not happen needs no waiting: once `settled` returns, nothing can happen until time passes.

Work in threads takes real time. The clock stands still while a call in an executor is under way, and inside
`real_time()`, which is for threads that the loop does not know (the job store's writer).
"""

import asyncio
import contextlib
import selectors
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, Final

INSTANT_SECONDS: Final = 1e-6
"""A moment of virtual time, shorter than every timer of the engine."""
STUCK_SECONDS: Final = 90.0
"""Real time without a sign of life of a thread, after which a test has failed: nothing can happen any more."""


class _Selector(selectors.DefaultSelector):
    """Polls the descriptors of the loop; instead of waiting, it moves the loop's clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.calls_under_way = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if self.calls_under_way or timeout is None:
            ready = super().select(STUCK_SECONDS)
            assert ready, "nothing can happen any more: no timer, and no sign of life of any thread"
            return ready
        self.now += timeout
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """The event loop of the engine's tests."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)
        self._threads: Executor = ThreadPoolExecutor(4)
        self.set_default_executor(self._threads)

    def time(self) -> float:
        return self._virtual.now

    def set_default_executor(self, executor: Any) -> None:
        self._threads = executor
        super().set_default_executor(executor)

    def run_in_executor(  # type: ignore[override]  # without the type variables
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        future = (executor or self._threads).submit(func, *args)
        result = asyncio.wrap_future(future, loop=self)
        self._virtual.calls_under_way += 1
        # Counted until the thread is through with it, also if its result is not awaited any more.
        future.add_done_callback(self._on_done)
        return result

    def _on_done(self, _: Future[Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.call_soon_threadsafe(self._count_done)

    def _count_done(self) -> None:
        self._virtual.calls_under_way -= 1

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - the loop's own
        with self.real_time():
            await super().shutdown_default_executor()

    @contextlib.contextmanager
    def real_time(self) -> Iterator[None]:
        """Hold the clock while something is awaited that a thread will bring about."""
        self._virtual.calls_under_way += 1
        try:
            yield
        finally:
            self._virtual.calls_under_way -= 1


@contextlib.contextmanager
def real_time() -> Iterator[None]:
    """Hold the clock of the running loop, if it is a virtual one."""
    loop = asyncio.get_running_loop()
    with loop.real_time() if isinstance(loop, VirtualTimeLoop) else contextlib.nullcontext():
        yield


async def settled() -> None:
    """Return when nothing can happen before time passes: every task waits for a timer or for something held."""
    await asyncio.sleep(INSTANT_SECONDS)


def seconds() -> float:
    """Return the time since the test began."""
    return asyncio.get_running_loop().time()
