"""A whole installation on Redis Cluster and S3 loses nothing while its parts break: one round of three faults.

`make soak` runs it; it takes about two minutes. `python -m scripts.cluster_chaos` runs ten rounds of eight faults.
"""

from pathlib import Path

import pytest

from scripts.cluster_chaos.__main__ import parser, run
from tests.fuzz_factor import FUZZ_FACTOR

pytestmark = [
    pytest.mark.soak,
    pytest.mark.xdist_group("cluster"),
    pytest.mark.skipif(FUZZ_FACTOR == 1, reason="costs a minute of CPU time: make soak runs it"),
]


async def test_an_installation_on_a_cluster_and_a_bucket_loses_nothing(tmp_path: Path) -> None:
    options = parser().parse_args(["--rounds", "1", "--fault", "kill-primary", "partition", "stop-s3"])
    results = await run(options, tmp_path)
    for rounds, total in results.values():
        assert rounds == 1
        assert total.violations == []
        assert total.accepted > total.videos > 0
