"""A raw HTTP client: bytes out, bytes back, for requests that no real client would send."""

import asyncio


async def exchange(host: str, port: int, request: bytes, *, seconds: float, is_all: bool = False) -> bytes:
    """Send bytes, and return all that comes until the other side closes or `seconds` have passed.

    `is_all`: shut down this side's direction of the connection after the request, so that the server knows that no
    more requests follow.
    """
    reader, writer = await asyncio.open_connection(host, port)
    received = b""
    try:
        writer.write(request)
        if is_all:
            writer.write_eof()
        async with asyncio.timeout(seconds):
            while chunk := await reader.read(65_536):
                received += chunk
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
    return received
