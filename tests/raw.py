"""HTTP by hand: bytes out, bytes back, for what no client would send."""

import asyncio


async def exchange(host: str, port: int, request: bytes, *, seconds: float) -> bytes:
    """Send bytes, and return all that comes until the other side closes or `seconds` have passed."""
    reader, writer = await asyncio.open_connection(host, port)
    received = b""
    try:
        writer.write(request)
        async with asyncio.timeout(seconds):
            while chunk := await reader.read(65_536):
                received += chunk
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
    return received
