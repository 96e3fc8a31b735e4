"""The child's end of a connection to the server: reads one message on each line, and blocks."""

import socket
import time


def read_line(connection: socket.socket, deadline: float, *, piece_bytes: int, max_bytes: int) -> bytes:
    """Return the next line. At most `piece_bytes` are read at once, and none once the line has `max_bytes`.

    Raises:
        OSError: there is no line by the `deadline` (of `time.monotonic`), it is too long, or the connection is closed.
    """
    line = b""
    while not line.endswith(b"\n"):
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        received = connection.recv(piece_bytes)
        if not received or len(line) > max_bytes:
            raise ConnectionError("the connection is closed")
        line += received
    return line
