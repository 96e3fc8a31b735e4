"""HLS and DASH manifests, and how a body is cut into the segments that they list."""

import itertools
from collections.abc import Mapping
from typing import Final
from xml.sax.saxutils import quoteattr

from .links import MANIFEST_HOST, MEDIA_HOST, path_of

SEGMENT_SECONDS: Final = 5
HLS_AUDIO_ITAGS: Final = (233, 234)
DASH_ITAG: Final = 140
_HLS_PICTURES: Final = ((229, 240), (230, 360), (231, 480), (232, 720))
_PACKET_BYTES: Final = 188
_SYNC: Final = 0x47
_ADTS_SAMPLES: Final = 1024
_ADTS_RATE: Final = 44_100
_TICKS_PER_SECOND: Final = 90_000


def hls_variant(link: Mapping[str, str]) -> bytes:
    """Return the master playlist of a recording: two audio groups, and pictures that belong to them."""
    lines = ["#EXTM3U", "#EXT-X-INDEPENDENT-SEGMENTS"]
    lines += [
        f'#EXT-X-MEDIA:URI="{_hls_playlist(link, itag)}",TYPE=AUDIO,GROUP-ID="{itag}",NAME="Default",'
        "DEFAULT=YES,AUTOSELECT=YES"
        for itag in HLS_AUDIO_ITAGS
    ]
    for itag, height in _HLS_PICTURES:
        lines.append(
            f'#EXT-X-STREAM-INF:BANDWIDTH={height * 3000},CODECS="avc1.4D401E,mp4a.40.2",'
            f'RESOLUTION={height * 16 // 9}x{height},FRAME-RATE=25,AUDIO="234",CLOSED-CAPTIONS=NONE'
        )
        lines.append(_hls_playlist(link, itag))
    return ("\n".join(lines) + "\n").encode("ascii")


def live_variant(link: Mapping[str, str]) -> bytes:
    """Return the master playlist of a running stream."""
    return (
        "#EXTM3U\n#EXT-X-INDEPENDENT-SEGMENTS\n"
        '#EXT-X-STREAM-INF:BANDWIDTH=1200000,CODECS="mp4a.40.2,avc1.4D401E",RESOLUTION=640x360,FRAME-RATE=30\n'
        f"{_hls_playlist(link, 93)}\n"
    ).encode("ascii")


def _hls_playlist(link: Mapping[str, str], itag: int) -> str:
    return (
        f"https://{MANIFEST_HOST}/api/manifest/hls_playlist/{path_of({**link, 'itag': str(itag)})}/playlist/index.m3u8"
    )


def hls_playlist(link: Mapping[str, str], segment_count: int, seconds: float) -> bytes:
    """Return the playlist of one format: `segment_count` segments of a track of so many seconds."""
    length = seconds / segment_count
    lines = [
        "#EXTM3U",
        "#EXT-X-PLAYLIST-TYPE:VOD",
        "#EXT-X-VERSION:6",
        f"#EXT-X-TARGETDURATION:{int(length) + 1}",
        "#EXT-X-MEDIA-SEQUENCE:0",
    ]
    for number in range(segment_count):
        lines.append(f"#EXTINF:{length:.6f},")
        lines.append(f"https://{MEDIA_HOST}/videoplayback/{path_of({**link, 'sq': str(number)})}/file/seg.ts")
    lines.append("#EXT-X-ENDLIST")
    return ("\n".join(lines) + "\n").encode("ascii")


def dash_manifest(link: Mapping[str, str], segment_count: int, seconds: float) -> bytes:
    """Return a DASH manifest with one audio format: an initialization segment and the media segments."""
    base = f"https://{MEDIA_HOST}/videoplayback/{path_of({**link, 'itag': str(DASH_ITAG)})}/"
    length = round(seconds * 1000 / segment_count)
    urls = "".join(f'<SegmentURL media="sq/{number}"/>' for number in range(1, segment_count + 1))
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<MPD xmlns="urn:mpeg:DASH:schema:MPD:2011" profiles="urn:mpeg:dash:profile:isoff-main:2011" type="static" '
        f'mediaPresentationDuration="PT{seconds:.3f}S"><Period>'
        '<AdaptationSet id="0" mimeType="audio/mp4" subsegmentAlignment="true">'
        f'<Representation id="{DASH_ITAG}" codecs="mp4a.40.2" audioSamplingRate="44100" startWithSAP="1" '
        f'bandwidth="130000"><BaseURL>{quoteattr(base)[1:-1]}</BaseURL>'
        f'<SegmentList timescale="1000" duration="{length}"><Initialization sourceURL="sq/0"/>{urls}</SegmentList>'
        "</Representation></AdaptationSet></Period></MPD>"
    ).encode("ascii")


def transport_segments(body: memoryview, seconds: float) -> list[bytes]:
    """Cut an MPEG transport stream before its program tables, in pieces of about `SEGMENT_SECONDS`."""
    count = max(1, round(seconds / SEGMENT_SECONDS))
    # A packet of stream 0 begins with the sync byte, and its 13-bit identifier is zero.
    starts = [
        at
        for at in range(0, len(body), _PACKET_BYTES)
        if body[at] == _SYNC and not body[at + 1] & 0x1F and not body[at + 2]
    ]
    wanted = [len(body) * number // count for number in range(1, count)]
    cuts = [0, *(min(starts, key=lambda start, at=at: abs(start - at)) for at in wanted), len(body)]  # type: ignore[misc]
    return [bytes(body[start:end]) for start, end in itertools.pairwise(cuts)]


def packed_segments(body: memoryview) -> list[bytes]:
    """Cut ADTS frames in pieces of `SEGMENT_SECONDS`, each behind an ID3 tag with its time (RFC 8216, section 3.4)."""
    frames_per_segment = SEGMENT_SECONDS * _ADTS_RATE // _ADTS_SAMPLES
    segments: list[bytes] = []
    at = frames = start = 0
    while at < len(body):
        at += (body[at + 3] & 3) << 11 | body[at + 4] << 3 | body[at + 5] >> 5
        frames += 1
        if frames % frames_per_segment == 0 or at >= len(body):
            first = len(segments) * frames_per_segment
            time = first * _ADTS_SAMPLES * _TICKS_PER_SECOND // _ADTS_RATE
            segments.append(_time_tag(time) + bytes(body[start:at]))
            start = at
    return segments


def _time_tag(ticks: int) -> bytes:
    """Return an ID3v2.4 tag with one private frame: the time of the first sample, as HLS asks for it."""
    content = b"com.apple.streaming.transportStreamTimestamp\x00" + ticks.to_bytes(8, "big")
    frame = b"PRIV" + len(content).to_bytes(4, "big") + b"\x00\x00" + content
    return b"ID3\x04\x00\x00" + len(frame).to_bytes(4, "big") + frame


def fragment_segments(body: memoryview) -> list[bytes]:
    """Cut a fragmented MP4 file: what precedes the first fragment, then one segment for each fragment."""
    cuts = []
    at = 0
    while at < len(body):
        if bytes(body[at + 4 : at + 8]) == b"moof":
            cuts.append(at)
        at += int.from_bytes(body[at : at + 4], "big")
    cuts = [0, *cuts, len(body)]
    return [bytes(body[start:end]) for start, end in itertools.pairwise(cuts)]
