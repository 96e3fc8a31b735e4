"""Every test of the engine runs on virtual time."""

from asyncio import AbstractEventLoop
from collections.abc import Callable, Mapping

from tests.virtual_time import VirtualTimeLoop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], AbstractEventLoop]]:
    """Tell pytest-asyncio which loop to use in this folder."""
    return {"virtual": VirtualTimeLoop}
