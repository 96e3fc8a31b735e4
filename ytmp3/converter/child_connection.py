"""The server's end of a connection over which a youtube child asks it: one JSON message on each line.

The child is not trusted: a line that is too long or not a message ends the connection. `youtube/lines.py` has the
child's end.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

logger = logging.getLogger(__name__)

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Answers one child until it ends. It may raise OSError, EOFError, and ValueError for what is not a message."""


@contextlib.asynccontextmanager
async def child_connection(serve: Serve, *, name: str, max_line_bytes: int) -> AsyncIterator[int]:
    """Yield a descriptor, the child's end. Its messages are answered until the block ends. `name` is for the log."""
    ours, theirs = socket.socketpair()
    task = asyncio.create_task(_serve(serve, ours, name, max_line_bytes), name=f"{name} connection")
    try:
        yield theirs.fileno()
    finally:
        task.cancel()
        theirs.close()
        await asyncio.wait([task])


async def _serve(serve: Serve, connection: socket.socket, name: str, max_line_bytes: int) -> None:
    reader, writer = await asyncio.open_unix_connection(sock=connection, limit=max_line_bytes)
    try:
        await serve(reader, writer)
    except (OSError, EOFError, ValueError) as error:
        # ValueError: a line that is too long, or no message.
        event = f"{name} connection ended"
        logger.debug(event, extra={"reason": str(error)})
    finally:
        writer.close()
