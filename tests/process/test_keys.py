"""SIGHUP makes a running service read its keys file again, so keys are rotated without a restart."""

import os
import signal
from pathlib import Path

from tests.fake_youtube import Spawned
from tests.stand.service_process import ServiceProcess, egress, service_process
from ytmp3.http.keys import key_line, new_secret


async def reload_keys(service: ServiceProcess, event: str) -> None:
    """Send SIGHUP, and return once the service has logged `event` about it."""
    count = len(service.events(event))
    os.kill(service.pid, signal.SIGHUP)
    await service.until_event(event, count + 1)


async def admitted(service: ServiceProcess, *secrets: str) -> list[bool]:
    """Return for each secret whether a request with it is admitted."""
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
        # Both keys are valid while the client changes from one to the other.
        keys.write_text(f"{key_line('alice', old)}\n{key_line('alice', new)}\n")
        assert await admitted(service, old, new) == [True, False]
        await reload_keys(service, "keys reloaded")
        assert await admitted(service, old, new) == [True, True]
        keys.write_text(f"{key_line('alice', new)}\n")
        await reload_keys(service, "keys reloaded")
        assert await admitted(service, old, new) == [False, True]
        for broken in (b"", f"{key_line('alice', old)} burst=3".encode(), b"\xff\xfe", b"alice secret"):
            keys.write_bytes(broken)
            await reload_keys(service, "keys not reloaded")
            assert await admitted(service, old, new) == [False, True]
        keys.unlink()
        await reload_keys(service, "keys not reloaded")
        assert await admitted(service, old, new, "") == [False, True, False]
        assert service.process is not None
        assert service.process.returncode is None
        assert old not in service.log()
