"""SIGHUP makes a running service take its keys anew: rotation without a restart."""

import asyncio
import os
import signal
from pathlib import Path

from tests.fake_youtube import Spawned
from tests.stand.service_process import ServiceProcess, egress, service_process
from ytmp3.http.keys import key_line, new_secret


async def hang_up(service: ServiceProcess, event: str) -> None:
    """Send the signal, and return when the service has said that it heard it."""
    times = len(service.events(event))
    os.kill(service.pid, signal.SIGHUP)
    async with asyncio.timeout(10):
        while len(service.events(event)) == times:
            await asyncio.sleep(0.01)


async def admitted(service: ServiceProcess, *secrets: str) -> list[bool]:
    statuses = []
    for secret in secrets:
        async with service.client.get(f"{service.url}/stats", headers={"X-API-Key": secret}) as response:
            assert response.status in {200, 401}
            statuses.append(response.status == 200)
    return statuses


async def test_keys_rotate_in_a_running_service_and_a_broken_file_changes_nothing(
    youtube: Spawned, tmp_path: Path
) -> None:
    old, new = new_secret(os.urandom(24)), new_secret(os.urandom(24))
    keys = tmp_path / "keys"
    keys.write_text(key_line("alice", old) + "\n")
    async with service_process(tmp_path, **egress(youtube), API_KEYS_FILE=str(keys)) as service:
        assert await admitted(service, old, new) == [True, False]
        # Both are live while the client changes over.
        keys.write_text(f"{key_line('alice', old)}\n{key_line('alice', new)}\n")
        assert await admitted(service, old, new) == [True, False]
        await hang_up(service, "keys reloaded")
        assert await admitted(service, old, new) == [True, True]
        keys.write_text(f"{key_line('alice', new)}\n")
        await hang_up(service, "keys reloaded")
        assert await admitted(service, old, new) == [False, True]
        for broken in (b"", f"{key_line('alice', old)} burst=3".encode(), b"\xff\xfe", b"alice secret"):
            keys.write_bytes(broken)
            await hang_up(service, "keys not reloaded")
            assert await admitted(service, old, new) == [False, True]
        keys.unlink()
        await hang_up(service, "keys not reloaded")
        assert await admitted(service, old, new, "") == [False, True, False]
        assert service.process is not None
        assert service.process.returncode is None
        assert old not in service.log()
