"""Clients that send requests and read nothing of the responses."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path


@asynccontextmanager
async def deaf_clients(
    host: str, port: int, count: int, source: str = "127.0.0.1"
) -> AsyncIterator[list[socket.socket]]:
    """Connect `count` sockets with the smallest receive buffers, from the address `source`; close them at the end."""
    clients = []
    try:
        for _ in range(count):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            client.bind((source, 0))
            clients.append(client)
            await asyncio.get_running_loop().sock_connect(client, (host, port))
        yield clients
    finally:
        for client in clients:
            client.close()


async def ask_for(clients: list[socket.socket], path: str) -> None:
    """Have each client send one GET request."""
    for client in clients:
        request = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        await asyncio.get_running_loop().sock_sendall(client, request)


def established_connections(port: int) -> int:
    """Return how many connections the kernel counts as established at the server's side."""
    return sum(
        1
        for line in Path("/proc/self/net/tcp").read_text(encoding="ascii").splitlines()[1:]
        if line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "01"
    )
