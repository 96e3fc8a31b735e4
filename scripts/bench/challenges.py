"""What YouTube's JavaScript costs a conversion: with the warm solver, and with a deno of each conversion's own."""

import os
from pathlib import Path
from typing import Final

from scripts.bench.measure import median, tree_cpu_seconds
from scripts.bench.services import Bench, Row
from tests.fake_youtube import Kind, spawn, video_id
from tests.stand.pipeline import RunningPipeline, running_pipeline

PAGE_MB: Final = os.sysconf("SC_PAGE_SIZE") / 2**20


async def challenges(bench: Bench) -> list[Row]:
    """Convert clips of four seconds whose links are scrambled, in turns with and without the solver."""
    folder = bench.folder / "challenges"
    for name in ("with", "without"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    with spawn(folder / "youtube", prepare=[Kind.CHALLENGE], weight="real") as youtube:
        async with (
            running_pipeline(youtube, folder / "with") as warm,
            running_pipeline(youtube, folder / "without", has_solver=False) as cold,
        ):
            await warm.convert(video_id(Kind.CHALLENGE, 0))
            pairs = [
                (await cpu_of(warm, number), await cpu_of(cold, number)) for number in range(1, bench.pair_count + 1)
            ]
            (pid,) = warm.solver.warm_pids
            resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_MB
            solved = dict(warm.solver.solutions)
    return [
        Row(
            what="JavaScript: CPU of a 4 s clip without the solver / with it",
            value=median([without / with_solver for with_solver, without in pairs]),
            goal=2.0,
            at_least=True,
            note=f"{median([w for w, _ in pairs]):.2f} and {median([c for _, c in pairs]):.2f} CPU s; {solved}",
        ),
        Row(what="JavaScript: memory of a warm process", value=resident, goal=150, at_least=False, unit="MB"),
    ]


async def cpu_of(own: RunningPipeline, number: int) -> float:
    """Return the CPU time of one conversion in all of its processes, without the server's."""
    before = tree_cpu_seconds(own.zygote_pid)
    await own.convert(video_id(Kind.CHALLENGE, number))
    await own.until_no_child_is_left()
    return tree_cpu_seconds(own.zygote_pid) - before
