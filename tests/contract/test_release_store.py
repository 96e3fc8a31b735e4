"""The folder of yt-dlp releases: whatever is killed or damaged, a server finds a whole release or the built-in one."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from tests.stand.service_process import ROOT
from ytmp3.converter.releases.store import BusyError, DamagedError, ReleaseStore
from ytmp3.core.release_state import BUILT_IN, State

DEEP = b'{"unknown": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
"""JSON that is nested too deeply for a parser."""
OLD, NEW, NEWER, LATEST = "2026.8.19", "2026.10.26", "2026.10.26.220202.dev0", "2026.11.2"

KILLED = r"""
import os, shutil, signal, sys
from pathlib import Path
from ytmp3.converter.releases.store import ReleaseStore

STEPS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "open", "fcntl.flock", "tempfile.mkdtemp"}

def change(folder):
    store = ReleaseStore(folder)
    with store.changing():
        incoming = store.incoming()
        (incoming / "packages" / "yt_dlp").mkdir(parents=True)
        (incoming / "packages" / "yt_dlp" / "__init__.py").write_text("")
        store.add(incoming, yt_dlp=sys.argv[2], yt_dlp_ejs="0.8.0", wheels={})
        store.remember({sys.argv[2]: 1.0})
        store.begin(sys.argv[2], 5)
        store.tidy()
    serial = store.state().serial
    store.advance(serial, 100)
    store.give_up(serial, sys.argv[2], sys.argv[3], "given up")

base = Path(sys.argv[1])
for step in range(1, 1000):
    folder = base / str(step)
    shutil.copytree(base / "before", folder)
    pid = os.fork()
    if pid == 0:
        left = step
        def hook(event, arguments):
            global left
            if event not in STEPS:
                return
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)
        change(folder)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if status == 0:
        break
    assert status == signal.SIGKILL, status
print(step)
"""
"""Kills the same change at its first step, its second step, and so on, each in a copy of the folder `before`."""


def add(store: ReleaseStore, version: str, content: str = "") -> None:
    with store.changing():
        incoming = store.incoming()
        (incoming / "packages" / "yt_dlp").mkdir(parents=True)
        (incoming / "packages" / "yt_dlp" / "__init__.py").write_text(content or version)
        store.add(incoming, yt_dlp=version, yt_dlp_ejs="0.8.0", wheels={})


@pytest.fixture
def store(tmp_path: Path) -> ReleaseStore:
    return ReleaseStore(tmp_path / "extractor")


def test_a_command_killed_at_any_step_leaves_a_whole_release_in_use(tmp_path: Path) -> None:
    before = ReleaseStore(tmp_path / "before")
    for version in (OLD, NEW):
        add(before, version)
        before.choose(version)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), NEWER, NEW], cwd=ROOT, capture_output=True, text=True, check=True
    )
    steps = int(killed.stdout)
    assert steps > 20
    shares, chosen, quarantined = set(), set(), False
    for step in range(1, steps + 1):
        store = ReleaseStore(tmp_path / str(step))
        state = store.state()
        chosen.add(state.active)
        shares.add(state.share)
        # A release that was given up is quarantined by the same write.
        assert (state.note == "given up") == (NEWER in state.quarantined)
        quarantined |= NEWER in state.quarantined
        store.verify(state.active)
        store.verify(state.established)
        if state.previous != BUILT_IN:
            store.verify(state.previous)
        # The next command works, and cleans up.
        add(store, NEWER)
        store.choose(NEWER)
        store.tidy()
        assert len(store.versions()) == 2
        with store.changing():
            names = {entry.name for entry in (tmp_path / str(step)).iterdir()}
        assert not [name for name in names if name.startswith(("incoming", "removed", ".state"))]
        store.verify(NEWER)
    assert (chosen, shares, quarantined) == ({NEW, NEWER}, {5, 100}, True)


def test_the_release_in_use_the_tried_one_and_the_one_before_are_kept_in_this_order(store: ReleaseStore) -> None:
    for version in (OLD, NEW):
        add(store, version)
        store.choose(version)
    assert store.state() == State(active=NEW, previous=OLD, serial=2)
    add(store, NEWER)
    store.tidy(tried=NEWER)
    assert store.versions() == [NEW, NEWER]
    # The one before is gone, so the built-in release takes its place.
    assert store.state() == State(active=NEW, previous=BUILT_IN, serial=2)
    assert store.choose(NEW) == State(active=NEW, previous=BUILT_IN, serial=3)


def test_a_release_that_is_tried_does_not_push_out_one_that_a_share_of_conversions_uses(store: ReleaseStore) -> None:
    for version in (OLD, NEW, NEWER):
        add(store, version)
    store.choose(OLD)
    begun = store.begin(NEW, 25)
    store.tidy(tried=NEWER)
    assert (store.versions(), store.state()) == ([OLD, NEW, NEWER], begun)
    store.tidy()
    assert (store.versions(), store.state()) == ([OLD, NEW], begun)


def test_releases_that_were_fetched_and_not_used_make_room_for_another(store: ReleaseStore) -> None:
    for version in (OLD, NEW, NEWER, LATEST):
        add(store, version)
    store.choose(OLD)
    state = store.choose(NEW)
    store.make_room(LATEST)
    assert (store.versions(), store.state()) == ([OLD, NEW, LATEST], state)


def test_a_held_release_is_not_removed(store: ReleaseStore) -> None:
    add(store, OLD)
    hold = store.hold(OLD)
    store.remove(OLD)
    with pytest.raises(BusyError, match="other files"):
        add(store, OLD, "another build")
    before = store.verify(OLD)
    # The same release again, as after `use stable` twice, changes nothing.
    add(store, OLD)
    assert store.verify(OLD) == before
    # A damaged one is repaired although servers use it.
    module = store.packages(OLD) / "yt_dlp" / "__init__.py"
    module.write_text("changed")
    add(store, OLD)
    assert store.verify(OLD) == before
    os.close(hold)
    store.remove(OLD)
    assert store.versions() == []


def test_going_back_does_not_choose_a_release_that_was_given_up(store: ReleaseStore) -> None:
    for version in (OLD, NEW):
        add(store, version)
        store.choose(version, is_new=True)
    store.give_up(1, NEW, OLD, "another serial number")
    assert store.state().active == NEW
    store.give_up(2, NEW, OLD, "given up")
    given_up = State(active=OLD, previous=OLD, serial=3, note="given up", quarantined={NEW: "given up"})
    assert store.state() == given_up
    # Chosen again all the same, it has the other one before it.
    assert store.choose(NEW, is_new=True) == State(active=NEW, previous=OLD, serial=4, is_new=True)


def test_a_release_that_is_given_up_after_another_was_chosen_is_not_returned_to(store: ReleaseStore) -> None:
    for version in (OLD, NEW, LATEST):
        add(store, version)
    store.choose(OLD)
    given_up, newer = store.begin(NEW, 100), store.begin(LATEST, 5)
    assert newer.previous == NEW
    store.give_up(given_up.serial, NEW, OLD, "given up")
    state = store.state()
    assert (state.active, state.established, state.serial) == (LATEST, OLD, newer.serial)
    assert state.quarantined == {NEW: "given up"}
    # The release to return to may be gone. The built-in one never is.
    newer = store.begin(LATEST, 5)
    store.remove(OLD)
    store.give_up(newer.serial - 1, OLD, OLD, "given up")
    assert (store.state().active, store.state().established) == (LATEST, BUILT_IN)


def test_a_server_waits_for_a_command_to_write_what_it_has_decided(store: ReleaseStore) -> None:
    add(store, OLD)
    begun = store.begin(OLD, 5)
    for write in (
        lambda: store.advance(begun.serial, 25),
        lambda: store.give_up(begun.serial, OLD, BUILT_IN, "given up"),
        lambda: store.use_built_in(begun.serial),
    ):
        command = contextlib.ExitStack()
        command.enter_context(store.changing())
        timer = threading.Timer(0.1, command.close)
        timer.start()
        write()
        timer.join()
    assert (store.state().active, OLD in store.state().quarantined) == (BUILT_IN, True)


def test_an_update_gets_a_larger_share_only_while_it_is_the_release_in_use(store: ReleaseStore) -> None:
    for version in (OLD, NEW):
        add(store, version)
    store.choose(OLD)
    begun = store.begin(NEW, 5)
    store.advance(begun.serial, 25)
    assert (store.state().share, store.state().serial, store.state().established) == (25, begun.serial, OLD)
    # Another server is late, and one that has read an older state.
    store.advance(begun.serial, 25)
    store.advance(begun.serial - 1, 100)
    assert store.state().share == 25
    store.give_up(begun.serial, NEW, OLD, "given up")
    store.advance(begun.serial, 100)
    assert (store.state().active, store.state().share) == (OLD, 100)
    with store.changing():
        store.quarantine(NEWER, "refused")
        store.remember({NEWER: 1.5})
    assert dict(store.state().quarantined) == {NEW: "given up", NEWER: "refused"}
    assert dict(store.state().seen) == {NEWER: 1.5}


def test_the_lock_is_open_for_writing_as_nfs_demands(store: ReleaseStore, tmp_path: Path) -> None:
    with store.changing():
        lock = tmp_path / "extractor" / "lock"
        opened = [each for each in Path("/proc/self/fd").iterdir() if each.is_symlink() and each.resolve() == lock]
        (flags,) = [
            int(line.split()[1], 8)
            for each in opened
            for line in Path("/proc/self/fdinfo", each.name).read_text().splitlines()
            if line.startswith("flags:")
        ]
    assert flags & os.O_ACCMODE == os.O_RDWR


def test_two_commands_do_not_change_the_releases_at_once(store: ReleaseStore) -> None:
    with store.changing(), pytest.raises(BusyError), store.changing():
        pass


def test_a_command_waits_for_a_server_that_writes_the_state(store: ReleaseStore) -> None:
    server = contextlib.ExitStack()
    server.enter_context(store.changing())
    timer = threading.Timer(0.2, server.close)
    timer.start()
    with store.changing(wait_seconds=60.0):
        pass
    timer.join()


def test_every_damage_is_found(store: ReleaseStore, tmp_path: Path) -> None:
    packages = store.packages(OLD)
    manifest = tmp_path / "extractor" / OLD / "manifest.json"
    module = packages / "yt_dlp" / "__init__.py"
    for damage, text in (
        (lambda: module.write_text("changed"), "has changed"),
        (module.unlink, "is missing"),
        (lambda: (packages / "yt_dlp.pth").write_text(""), "not in the manifest"),
        (lambda: (packages / "link").symlink_to("/etc"), "neither a file nor a folder"),
        (lambda: manifest.write_text("{"), "cannot be read"),
        (lambda: manifest.write_bytes(manifest.read_bytes().replace(OLD.encode(), NEW.encode())), "another release"),
        (manifest.unlink, "not there"),
    ):
        add(store, OLD)
        store.verify(OLD)
        damage()
        with pytest.raises(DamagedError, match=text):
            store.verify(OLD)


def test_a_state_that_cannot_be_read_is_replaced_by_the_next_choice(store: ReleaseStore, tmp_path: Path) -> None:
    assert store.state() == State()
    add(store, OLD)
    path = tmp_path / "extractor" / "state.json"
    for content in (b"", b"{", b"\xff", b"[]", b'{"active": 1}', b'{"active": "../../tmp"}', b'{"share": 0}', DEEP):
        path.write_bytes(content)
        with pytest.raises(DamagedError):
            store.state()
        store.choose(OLD)
        assert store.state().active == OLD
        # No running server has seen this number, so it notices the change.
        assert store.state().serial > 1_000_000_000
    assert msgspec.json.decode(path.read_bytes(), type=State) == store.state()


def test_signals_of_a_killed_command_free_the_lock(store: ReleaseStore, tmp_path: Path) -> None:
    add(store, OLD)
    program = (
        "import sys, time; from pathlib import Path; from ytmp3.converter.releases.store import ReleaseStore\n"
        "with ReleaseStore(Path(sys.argv[1])).changing():\n    print('held', flush=True); time.sleep(3600)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "extractor")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"held\n"
        with pytest.raises(BusyError), store.changing():
            pass
        running.send_signal(signal.SIGKILL)
    with store.changing():
        pass
