"""Hostile responses in place of pages: odd fields, huge and compressed bodies, broken connections."""

import asyncio
import dataclasses
import gzip
import socket
import struct
import zlib
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.fake_youtube import ODD_FIELDS, Kind, Spawned, video_id
from tests.stand.pipeline import running_pipeline
from ytmp3.converter.youtube.responses import MAX_RESPONSE_BYTES, ResponseTooLargeError, decompress
from ytmp3.core.errors import ConversionError, FailureCode


async def test_odd_fields_write_nothing_outside_the_scratch_folders_and_block_nothing(
    youtube: Spawned, tmp_path: Path
) -> None:
    (tmp_path / "rig").mkdir()
    async with running_pipeline(youtube, tmp_path / "rig") as own:
        ids = [video_id(Kind.ODD_FIELDS, number) for number in range(len(ODD_FIELDS))]
        ends = await asyncio.gather(*map(own.convert, ids), return_exceptions=True)
        assert [path.name for path in tmp_path.iterdir()] == ["rig"]
        scratches = {f"scratch-{number + 1}" for number in range(len(ids))}
        assert {path.name for path in own.folder.iterdir()} == scratches
        assert not list(tmp_path.rglob("*outside*"))
        names = {path.name for scratch in own.folder.iterdir() for path in scratch.iterdir()}
        assert names <= {"spool-1", "spool-2", "cover", "encoded.mp3", "track.mp3"}
    codes = {end.code for end in ends if isinstance(end, ConversionError)}
    youtube_or_release = {FailureCode.UPSTREAM_ERROR, FailureCode.BOT_CHECK, FailureCode.EXTRACTOR_BROKEN}
    assert codes <= {*youtube_or_release, FailureCode.NO_AUDIO}
    assert len(ends) - sum(isinstance(end, BaseException) for end in ends) >= 8


@pytest.mark.parametrize(
    ("packing", "pack"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", lambda content: zlib.compress(content, wbits=-15)),
    ],
)
def test_a_body_is_decompressed_up_to_the_bound_and_no_byte_further(
    packing: str, pack: Callable[[bytes], bytes]
) -> None:
    assert decompress(pack(b"a page"), packing) == b"a page"
    assert decompress(b"", packing) == b""
    assert len(decompress(pack(b" " * MAX_RESPONSE_BYTES), packing)) == MAX_RESPONSE_BYTES
    with pytest.raises(ResponseTooLargeError):
        decompress(pack(b" " * (MAX_RESPONSE_BYTES + 1)), packing)
    with pytest.raises((EOFError, zlib.error)):
        decompress(pack(b"a page")[:-1], packing)
    with pytest.raises((EOFError, zlib.error)):
        decompress(b"no such thing", packing)


def test_a_body_with_a_content_encoding_is_refused() -> None:
    with pytest.raises(EOFError):
        decompress(b"", "br")


async def test_a_certificate_of_an_untrusted_authority_is_a_fault_of_the_settings(
    youtube: Spawned, tmp_path: Path
) -> None:
    without_authority = dataclasses.replace(youtube, ca_file=None)  # type: ignore[arg-type]
    async with running_pipeline(without_authority, tmp_path) as own:
        with pytest.raises(ConversionError, match="CERTIFICATE_VERIFY_FAILED") as failure:
            await own.convert(video_id(Kind.SHORT))
    assert failure.value.code is FailureCode.EGRESS_MISCONFIGURED


async def test_a_whole_file_sent_for_a_range_is_not_appended_to_the_first_half(
    youtube: Spawned, tmp_path: Path
) -> None:
    """The result would be two seconds too long, which is within the tolerated difference."""
    async with running_pipeline(youtube, tmp_path) as own:
        converted = await own.convert(video_id(Kind.CUT_WHOLE))
    assert converted.duration_seconds == pytest.approx(4.0, abs=0.1)


async def resetting(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def garbling(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
    await reader.read(1)
    writer.write(b"no TLS at all" * 9)
    writer.close()


@pytest.mark.parametrize(("behave", "reason"), [(resetting, "reset by peer"), (garbling, "SSL")])
async def test_a_connection_that_breaks_before_any_response_means_that_youtube_is_unreachable(
    youtube: Spawned,
    tmp_path: Path,
    behave: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    reason: str,
) -> None:
    server = await asyncio.start_server(behave, "127.0.0.1", 0)
    with closing(server):
        proxy_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with running_pipeline(dataclasses.replace(youtube, proxy_url=proxy_url), tmp_path) as own:
            with pytest.raises(ConversionError, match=reason) as failure:
                await own.convert(video_id(Kind.SHORT))
    assert failure.value.code is FailureCode.UPSTREAM_UNREACHABLE


@pytest.mark.parametrize("kind", [Kind.HUGE_ANSWER, Kind.BOMB])
async def test_a_huge_body_is_read_up_to_the_bound(youtube: Spawned, tmp_path: Path, kind: Kind) -> None:
    """Read or decompressed as a whole, each would cost 3 s and up to a gigabyte of memory."""
    async with running_pipeline(youtube, tmp_path) as own:
        with pytest.raises(ConversionError, match=f"a response of more than {MAX_RESPONSE_BYTES} bytes") as failure:
            await own.convert(video_id(kind, 1))
    assert failure.value.code is FailureCode.UPSTREAM_ERROR
