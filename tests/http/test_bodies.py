"""Bodies made up by Hypothesis, posted to the real app: none is a 5xx, and only one that is right is stored (S14)."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz_factor import FUZZ_FACTOR
from tests.http.stand import Stand
from ytmp3.core.recipe import Quality

pytestmark = pytest.mark.fuzz

GOOD = "https://youtu.be/dQw4w9WgXcQ"
CODES = {"invalid_json", "invalid_field", "body_too_large", "unsupported_url", "not_a_video"}

values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=30), st.just(GOOD),
        st.sampled_from(["192k", "V0", "", "https://youtu.be/", "http://127.0.0.1/", "\ud800", "\x00"]),
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
names = st.sampled_from(["url", "quality", "URL", "url ", "__proto__", "job_id", ""]) | st.text(max_size=10)
# As pairs, because a name may come twice.
objects = st.lists(st.tuples(names, values), max_size=5)


def written(pairs: list[tuple[str, Any]]) -> bytes:
    parts = (f"{json.dumps(name)}:{json.dumps(value)}" for name, value in pairs)
    return ("{" + ",".join(parts) + "}").encode()


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A body with a stretch of it replaced by bytes that need not be UTF-8."""
    body = draw(st.one_of(objects.map(written), st.just(written([("url", GOOD)]))))
    start = draw(st.integers(0, len(body)))
    return body[:start] + draw(st.binary(max_size=6)) + body[start + draw(st.integers(0, 6)) :]


bodies = st.one_of(
    objects.map(written),
    values.map(lambda value: json.dumps(value).encode()),
    damaged(),
    st.binary(max_size=60),
    st.tuples(st.sampled_from([b"[", b'{"a":', b'{"url":[', b" ", b"9", b'"']), st.integers(0, 5000)).map(
        lambda nest: nest[0] * nest[1]
    ),
)


def is_right(body: bytes) -> bool:
    """Whether this may be taken, by an independent reading: one object, its fields once, each as it should be."""
    try:
        pairs = json.loads(body.decode("utf-8"), object_pairs_hook=lambda pairs: pairs)
    except (ValueError, RecursionError):
        return False
    if not isinstance(pairs, list) or not all(isinstance(pair, tuple) for pair in pairs):
        return False
    fields = dict(pairs)
    return (
        len(fields) == len(pairs)
        and fields.keys() <= {"url", "quality"}
        and isinstance(fields.get("url"), str)
        and fields.get("quality", "192k") in list(Quality)
    )


async def test_no_body_is_a_5xx_and_only_a_right_one_is_stored(service: Stand) -> None:
    loop = asyncio.get_running_loop()

    async def post(body: bytes) -> tuple[int, dict[str, Any]]:
        headers = {"Content-Type": "application/json"}
        async with service.client.post(f"{service.url}/extract", data=body, headers=headers) as response:
            return response.status, await response.json()

    async def stored() -> int:
        counts = await service.service.store.counts()
        return counts.pending + counts.processing + counts.completed + counts.failed + counts.cancelled

    jobs = 0

    @given(bodies)
    @settings(max_examples=1000 * FUZZ_FACTOR)
    def check(body: bytes) -> None:
        nonlocal jobs
        status, answer = asyncio.run_coroutine_threadsafe(post(body), loop).result(20)
        if status in {200, 202}:
            assert is_right(body)
            jobs += 1
        else:
            assert status in {400, 413, 422}
            assert answer["code"] in CODES

    await asyncio.to_thread(check)
    assert await stored() == jobs > 0
