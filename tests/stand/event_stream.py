"""A client of event streams: reads the events of a response one by one."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientResponse

from tests.stand.waiting import PATIENCE_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamedEvent:
    """One event, or one field that stands alone, such as `retry`."""

    fields: dict[str, str]

    @property
    def name(self) -> str | None:
        return self.fields.get("event")

    @property
    def data(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(self.fields["data"])
        return data


async def events_of(response: ClientResponse) -> AsyncIterator[StreamedEvent]:
    """Yield the events until the stream ends. A comment is an event without fields."""
    fields: dict[str, str] = {}
    while True:
        async with asyncio.timeout(PATIENCE_SECONDS):
            line = (await response.content.readline()).decode()
        if not line:
            return
        text = line.removesuffix("\n")
        if not text:
            yield StreamedEvent(fields=fields)
            fields = {}
        elif not text.startswith(":"):
            name, _, value = text.partition(": ")
            assert name not in fields
            fields[name] = value


async def next_event(events: AsyncIterator[StreamedEvent], *names: str) -> StreamedEvent:
    """Return the next event with one of these names; skip the others."""
    async for event in events:
        if event.name in names:
            return event
    raise AssertionError(f"the stream has ended without one of {names}")
