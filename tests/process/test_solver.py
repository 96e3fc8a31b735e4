"""The solver: real yt-dlp and real deno against the player scripts of the fake YouTube."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fake_youtube import Kind, Spawned, spawn, video_id
from tests.fake_youtube.player import Player, script_of
from tests.stand.pipeline import RunningPipeline, running_pipeline
from tests.stand.processes import descendants
from tests.stand.waiting import until
from ytmp3.converter.solver.messages import Challenges
from ytmp3.converter.solver.service import MAX_PLAYERS, MAX_WARM
from ytmp3.converter.youtube.solver_client import NoSolutionError, SolverClient
from ytmp3.core.errors import ConversionError

pytestmark = pytest.mark.xdist_group("solver")

WANTED = "abcdefghijklmnopq"
ASK_SECONDS = 600.0
"""No busy machine takes as long."""
EXTRACT_SECONDS = 3 * ASK_SECONDS
ASKERS = ThreadPoolExecutor(8, thread_name_prefix="asker")
"""The threads that take the place of the children."""


@pytest.fixture(scope="module")
def youtube(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spawned]:
    with spawn(tmp_path_factory.mktemp("youtube"), prepare=[Kind.SHORT]) as running:
        yield running


@pytest.fixture(autouse=True)
def _reset(youtube: Spawned) -> None:
    youtube.reset()


def ask(descriptor: int, player: Player, script: str | None) -> str | None:
    """Ask as a child does; return the solution, None if the script is needed."""
    requests = [Challenges(kind="n", challenges=[player.scramble_n(WANTED)])]
    with contextlib.closing(SolverClient(os.dup(descriptor), ASK_SECONDS)) as client:
        results = client.solve(player.path, requests, script)
    return None if results is None else results[0][player.scramble_n(WANTED)]


async def solution(own: RunningPipeline, player: Player, *, script_of_other: Player | None = None) -> str | None:
    """Ask the pipeline's solver for the solution of a player, with its script or with another one's."""
    script = script_of(script_of_other or player, is_heavy=False).plain.decode()
    async with own.solver.connection() as descriptor:
        # Not in the default threads: the solver uses those too, and would wait for one while all of them wait for it.
        return await asyncio.get_running_loop().run_in_executor(ASKERS, ask, descriptor, player, script)


async def test_the_second_conversion_is_solved_without_the_script(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path, extract_seconds=EXTRACT_SECONDS) as own:
        await own.convert(video_id(Kind.CHALLENGE, 1))
        first = dict(own.solver.solutions)
        await own.convert(video_id(Kind.CHALLENGE, 2))
        assert (first, own.solver.solutions) == (
            {"warm": 0, "cold": 1, "failed": 0},
            {"warm": 1, "cold": 1, "failed": 0},
        )
        assert youtube.totals()["player_scripts"] == 1
        (check,) = (check for check in await own.pipeline.check() if check.name == "solver")
        assert (check.ok, check.detail) == (True, "1 warm; solved 1 warm, 1 cold; failed 0")
        (pid,) = own.solver.warm_pids
        assert "Seccomp:\t2" in Path(f"/proc/{pid}/status").read_text(), "behind the network filter"
    await until(lambda: not Path(f"/proc/{pid}").exists(), "the warm process has ended")


async def test_a_player_that_cannot_be_solved_fails_its_conversions_only(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path, extract_seconds=EXTRACT_SECONDS) as own:
        youtube.switch(players=["unsolvable:0"], clients="real", refused_media={"VISIONOS": 0})
        with pytest.raises(ConversionError):
            await own.convert(video_id(Kind.CHALLENGE, 1))
        failed = own.solver.solutions["failed"]
        assert failed >= 1
        youtube.switch(players=["solvable:0"], refused_media={})
        await own.convert(video_id(Kind.CHALLENGE, 2))
        assert own.solver.solutions == {"warm": 0, "cold": 1, "failed": failed}


async def test_a_conversion_completes_when_the_solver_dies_while_it_is_asked(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path, extract_seconds=EXTRACT_SECONDS) as own:
        await own.convert(video_id(Kind.CHALLENGE, 1))
        (player,) = own.solver._players.values()
        process = player.process
        assert process is not None
        os.kill(process.pid, signal.SIGSTOP)
        conversion = asyncio.create_task(own.convert(video_id(Kind.CHALLENGE, 2)))
        await until(lambda: process._is_asked, "the solver is asked")
        os.kill(process.pid, signal.SIGKILL)
        assert (await conversion).size_bytes
        assert own.solver.solutions == {"warm": 0, "cold": 1, "failed": 1}


async def test_a_dead_process_is_started_again_without_parsing(youtube: Spawned, tmp_path: Path) -> None:
    player = Player.named("solvable:0")
    async with running_pipeline(youtube, tmp_path, extract_seconds=EXTRACT_SECONDS) as own:
        assert await solution(own, player) == WANTED
        (pid,) = own.solver.warm_pids
        os.kill(pid, signal.SIGKILL)
        await until(lambda: pid not in descendants(own.zygote_pid, with_zombies=True), "it has been reaped")
        (known,) = own.solver._players.values()
        await until(lambda: known.process is None or not known.process.is_running, "the server knows")
        assert await solution(own, player) == WANTED
        assert own.solver.solutions == {"warm": 1, "cold": 1, "failed": 0}


async def test_a_wrong_script_is_dropped_after_a_refused_link(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path, extract_seconds=EXTRACT_SECONDS) as own:
        player = Player.named("solvable:0")
        assert await solution(own, player, script_of_other=Player.named("solvable:7")) != WANTED
        assert (await own.convert(video_id(Kind.CHALLENGE, 1))).size_bytes
        assert own.solver.solutions == {"warm": 1, "cold": 2, "failed": 0}
        assert await solution(own, player) == WANTED


async def test_any_number_of_conversions_cause_one_parsing(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path, extract_seconds=EXTRACT_SECONDS) as own:
        player = Player.named("solvable:3")
        assert await asyncio.gather(*(solution(own, player) for _ in range(6))) == [WANTED] * 6
        assert own.solver.solutions == {"warm": 5, "cold": 1, "failed": 0}


async def test_the_number_of_kept_players_and_processes_is_bounded(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path, extract_seconds=EXTRACT_SECONDS) as own:
        for number in range(MAX_PLAYERS + 1):
            assert await solution(own, Player.named(f"solvable:{number}")) == WANTED
        assert len(own.solver.warm_pids) == MAX_WARM
        assert sum(player.parsed is not None for player in own.solver._players.values()) == MAX_PLAYERS


async def test_a_name_that_is_no_player_is_refused(youtube: Spawned, tmp_path: Path) -> None:
    async with (
        running_pipeline(youtube, tmp_path, extract_seconds=EXTRACT_SECONDS) as own,
        own.solver.connection() as descriptor,
    ):
        with (
            contextlib.closing(SolverClient(os.dup(descriptor), ASK_SECONDS)) as client,
            pytest.raises(NoSolutionError, match="no solver for this player"),
        ):
            await asyncio.to_thread(client.solve, "/s/../etc/passwd", [], "")


def test_a_solver_that_does_not_reply_is_abandoned() -> None:
    silent, ours = socket.socketpair()
    with silent, contextlib.closing(SolverClient(ours.detach(), ask_seconds=0.01)) as client:
        with pytest.raises(NoSolutionError, match="no answer"):
            client.solve("/s/player/00000000/base.js", [], None)
        assert not client.is_usable


def test_only_a_refused_link_with_a_solution_is_reported() -> None:
    silent, ours = socket.socketpair()
    with silent, contextlib.closing(SolverClient(ours.detach(), ASK_SECONDS)) as client:
        client._generations["/s/player/00000000/base.js"] = 1
        for url in ("https://rr1.googlevideo.com/videoplayback?itag=251", "https://www.youtube.com/watch?v=x&n=1"):
            client.link_refused(url)
        client.link_refused("https://rr1.googlevideo.com/videoplayback?itag=251&n=abc")
        client.link_refused("https://rr1.googlevideo.com/videoplayback?itag=251&n=abc")
        assert silent.recv(1000).count(b"\n") == 1
