"""PO tokens: fetched by the server for its children, and never a reason for a conversion to fail."""

import asyncio
import contextlib
import os
import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.fake_youtube import Kind, Spawned, video_id
from tests.stand.pipeline import running_pipeline
from tests.stand.token_provider import VERSION, token, token_provider
from ytmp3.converter import OnlyPassage
from ytmp3.converter.settings import Egress, Identity, ToolSettings
from ytmp3.converter.token_messages import NoToken, Token, TokenWanted, decode_answer, encode
from ytmp3.converter.tokens import MAX_TOKENS, TokenProvider
from ytmp3.converter.tools import rungs
from ytmp3.core.errors import ConversionError, FailureCode

DIRECT = Egress()


def settings(url: str | None, **changed: Any) -> ToolSettings:
    usual: dict[str, Any] = {
        "ffmpeg_path": None,
        "egress_proxy": None,
        "egress_ca_file": None,
        "cookies_file": None,
        "extract_concurrency": 1,
        "encode_concurrency": 1,
    }
    return ToolSettings(**usual | changed, pot_provider_url=url)


async def ask(provider: TokenProvider, *lines: bytes, egress: Egress = DIRECT) -> list[Token | NoToken]:
    """Send lines as a child does, and return the answers until the connection ends or all are answered."""
    async with provider.connection(egress) as descriptor:
        assert descriptor is not None
        reader, writer = await asyncio.open_unix_connection(sock=socket.socket(fileno=os.dup(descriptor)))
        answers = []
        # The server ends the connection of a child that asks for too much.
        with contextlib.suppress(ConnectionError):
            for line in lines:
                writer.write(line + b"\n")
                if answer := await reader.readline():
                    answers.append(decode_answer(answer))
        writer.close()
    return answers


WANTED = encode(TokenWanted(content_binding="dQw4w9WgXcQ"))


async def test_a_client_that_needs_tokens_serves_with_a_provider_only(youtube: Spawned, tmp_path: Path) -> None:
    video = video_id(Kind.BY_CLIENT, 31)
    async with token_provider() as stand_in:
        way = (("mweb",),)
        async with running_pipeline(youtube, tmp_path, clients=way, pot_provider_url=stand_in.url) as own:
            await own.convert(video)
            (tokens,) = [each for each in await own.pipeline.check() if each.name == "po-tokens"]
            assert (tokens.ok, tokens.version) == (True, VERSION)
            made = len(stand_in.asked)
            # The token is made by the way that the conversion takes, and bound to what YouTube asks for.
            assert made
            assert all(each["proxy"] == youtube.proxy_url and each["content_binding"] for each in stand_in.asked)
            stand_in.answer = "500"
            with pytest.raises(ConversionError) as failure:
                await own.convert(video_id(Kind.BY_CLIENT, 32))
            assert failure.value.code is FailureCode.EXTRACTOR_BROKEN
            # It is not asked again for some time.
            failed = len(stand_in.asked)
            with pytest.raises(ConversionError):
                await own.convert(video_id(Kind.BY_CLIENT, 33))
            assert len(stand_in.asked) == failed


async def test_only_identities_with_po_tokens_get_them_and_each_by_its_own_way(
    youtube: Spawned, tmp_path: Path
) -> None:
    egress = Egress(proxy=youtube.proxy_url)
    identities = [
        Identity(name="plain", egress=egress, videos_per_hour=0),
        Identity(name="proven", egress=egress, videos_per_hour=0, has_po_tokens=True),
    ]
    async with token_provider() as stand_in:
        # The proxy of the settings does not exist: each identity brings its own.
        changed: dict[str, Any] = {
            "clients": (("mweb",),),
            "pot_provider_url": stand_in.url,
            "egress_proxy": "http://127.0.0.1:9",
        }
        async with running_pipeline(youtube, tmp_path, **changed) as own:
            own.pipeline.use_identities(identities)
            with pytest.raises(ConversionError) as failure:
                await own.convert(video_id(Kind.BY_CLIENT, 35), passage=OnlyPassage("plain"))
            assert (failure.value.code, stand_in.asked) == (FailureCode.EXTRACTOR_BROKEN, [])
            await own.convert(video_id(Kind.BY_CLIENT, 36), passage=OnlyPassage("proven"))
            assert stand_in.asked
            assert all(each["proxy"] == youtube.proxy_url for each in stand_in.asked)


async def test_a_failure_by_one_way_out_does_not_pause_the_others() -> None:
    async with token_provider() as stand_in:
        provider = TokenProvider(settings(stand_in.url))
        try:
            stand_in.answer = "500"
            broken, other = Egress(proxy="http://127.0.0.1:9"), Egress(source_address="127.0.0.1")
            for egress in (broken, broken):
                (answer,) = await ask(provider, WANTED, egress=egress)
                assert isinstance(answer, NoToken)
            stand_in.answer = "token"
            assert await ask(provider, WANTED, egress=other) == [Token(token=token(2))]
            assert [(each.get("proxy"), each.get("source_address")) for each in stand_in.asked] == [
                ("http://127.0.0.1:9", None),
                (None, "127.0.0.1"),
            ]
        finally:
            await provider.close()


async def test_a_dead_provider_costs_no_conversion_that_needs_no_token(youtube: Spawned, tmp_path: Path) -> None:
    async with running_pipeline(youtube, tmp_path, pot_provider_url="http://127.0.0.1:9") as own:
        await own.convert(video_id(Kind.BY_CLIENT, 34))
        (tokens,) = [each for each in await own.pipeline.check() if each.name == "po-tokens"]
        assert tokens.ok, "most conversions need no token"
        assert "no answer" in tokens.detail


@pytest.mark.parametrize("fault", ["500", "hangs", "huge", "odd", "html"])
async def test_a_fault_of_the_provider_is_no_token(fault: str) -> None:
    async with token_provider() as stand_in:
        provider = TokenProvider(settings(stand_in.url), seconds=0.2 if fault == "hangs" else 15.0, pause_seconds=0)
        try:
            stand_in.answer = fault
            (answer,) = await ask(provider, WANTED)
            assert isinstance(answer, NoToken)
            assert stand_in.url not in answer.reason
            # It is asked again after the pause.
            stand_in.answer = "token"
            assert await ask(provider, WANTED) == [Token(token=token(2))]
        finally:
            await provider.close()


async def test_a_child_that_is_taken_over_gets_only_a_few_tokens_and_reaches_nothing_else() -> None:
    async with token_provider() as stand_in:
        provider = TokenProvider(settings(stand_in.url))
        try:
            assert len(await ask(provider, *([WANTED] * (MAX_TOKENS + 5)))) == MAX_TOKENS
            asked = len(stand_in.asked)
            assert await ask(provider, b"x" * 100_000) == []
            assert await ask(provider, b'{"type": "TokenWanted"}') == []
            for binding in ("", "a b", "x" * 2000, "\n"):
                (answer,) = await ask(provider, encode(TokenWanted(content_binding=binding)))
                assert isinstance(answer, NoToken)
            assert len(stand_in.asked) == asked
        finally:
            await provider.close()


async def test_without_a_provider_nothing_is_asked() -> None:
    provider = TokenProvider(settings(None))
    async with provider.connection(DIRECT) as descriptor:
        assert descriptor is None
    assert await provider.check() is None
    assert provider.child_seconds is None
    await provider.close()


def test_the_client_that_needs_tokens_is_asked_last() -> None:
    url = "http://pot:4416"

    def asked(own: ToolSettings, *, has_po_tokens: bool = True) -> list[tuple[str, ...]]:
        return [rung.clients for rung in rungs(own, has_cookies=False, has_po_tokens=has_po_tokens)]

    assert asked(settings(url)) == [("visionos",), ("default",), ("mweb",)]
    assert asked(settings(url), has_po_tokens=False) == [("visionos",), ("default",)]
    assert asked(settings(None)) == [("visionos",), ("default",)]
    assert asked(settings(url, clients=(("tv",),))) == [("tv",)]
    assert url not in repr(settings(url))
    assert msgspec.json.decode(WANTED)["type"] == "TokenWanted"
