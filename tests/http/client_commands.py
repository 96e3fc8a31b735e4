"""Runs commands of the client in the test's own process."""

import asyncio

import pytest

from ytmp3.cli import main


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the variables of the user who runs the tests from the client."""
    for name in ("YTMP3_SERVER", "YTMP3_API_KEY"):
        monkeypatch.delenv(name, raising=False)


async def ytmp3(*arguments: str) -> int:
    """Run a command of the client as a user would; return its exit code."""

    def run() -> int:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        return int(ended.value.code or 0)

    return await asyncio.to_thread(run)
