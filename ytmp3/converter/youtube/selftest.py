"""Tries the loaded yt-dlp without a network: our extraction of canned responses must give the results that are known.

It runs in a child process of `converter.releases`, for a release that may replace the one in use. It finds what a new
yt-dlp would break in our code. Whether YouTube has changed, only YouTube can show (`ytmp3 doctor`).
"""

import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yt_dlp
import yt_dlp_ejs
from msgspec import json
from yt_dlp.utils import YoutubeDLError

from ytmp3.converter.youtube import patches, places
from ytmp3.converter.youtube.downloader import options
from ytmp3.converter.youtube.events import Extraction, Preload
from ytmp3.converter.youtube.extractor import Extractor, RefusedError
from ytmp3.converter.youtube.ladder import Rung
from ytmp3.converter.youtube.rehearsal import PLAYER, SOUND, VIDEO_ID, RehearsalDownloader, media_format
from ytmp3.core.errors import FailureCode
from ytmp3.core.release import fits

_CLIENT: Final = "web_embedded"
"""A player client that gets links to media which the player's script has to complete, and needs no token."""

_OPUS: Final = 'audio/webm; codecs="opus"'
_AAC: Final = 'audio/mp4; codecs="mp4a.40.2"'

_SCRIPT: Final = b"""\
var _yt_player={};(function(g){
var window=this;
var Lk=function(a){this.address=a;this.query={}};
Lk.prototype.set=function(a,b){this.query[a]=b};
Lk.prototype.get=function(a){return this.query[a]};
Lk.prototype.clone=function(){var a=new Lk(this.address);for(var b in this.query)a.query[b]=this.query[b];return a};
Lk.prototype.Wx=function(){var a=this.get("n");a&&this.set("n",Nf(a))};
var Nf=function(a){var b=a.split("");try{b.reverse()}catch(c){return"enhanced_except_"+a}return b.join("")};
var Sg=function(a){var b=a.split("");b.splice(0,1);b.reverse();return b.join("")};
var Bl=function(a,b,c){var d=new Lk(a);d.set("alr","yes");c&&d.set(b,encodeURIComponent(Sg(decodeURIComponent(c))));
return d};
g.cfg={signatureTimestamp:20000};
})(_yt_player);
"""
"""A player script of the form that yt-dlp-ejs looks for: `n` is reversed; a signature loses its first character, and is
reversed."""

_REFUSALS: Final = (
    ("LOGIN_REQUIRED", "Sign in to confirm you\u2019re not a bot", FailureCode.BOT_CHECK),
    ("LOGIN_REQUIRED", "This is a private video. Please sign in to verify that you may see it.", FailureCode.PRIVATE),
    ("ERROR", "Video unavailable", FailureCode.VIDEO_UNAVAILABLE),
)


def problems(preload: Preload, packages: str, scratch: str) -> Iterator[str]:
    """Yield what the loaded release would break. `packages` is the folder from which it must have been loaded."""
    for module in (yt_dlp, yt_dlp_ejs):
        if not Path(str(module.__file__)).is_relative_to(packages):
            yield f"{module.__name__} was loaded from {Path(str(module.__file__)).parent}, not from the release"
    installed, wanted = patches.installed_ejs_version(), patches.wanted_ejs_version()
    if installed is None or wanted is None or not fits(installed, wanted):
        yield f"it has yt-dlp-ejs {installed}, and accepts {wanted}"
        return
    if unknown := sorted(options(preload).keys() - yt_dlp.parse_options([]).ydl_opts.keys()):
        yield f"yt-dlp does not know the options {', '.join(unknown)} any more"
    test = _SelfTest(preload, scratch)
    for name, case in (
        ("an ordinary video", test.ordinary),
        ("a video in two languages", test.two_languages),
        ("scrambled links", test.scrambled),
        ("links without addresses (SABR)", test.without_links),
        ("refusals", test.refusals),
    ):
        try:
            case()
        except Exception as error:  # a broken release may raise anything
            if places.is_of_machine(error):
                raise
            yield f"{name}: {error}" if isinstance(error, _UnexpectedError) else f"{name}: {error!r}"


class _UnexpectedError(Exception):
    """A result is not the known one."""


class _SelfTest:
    def __init__(self, preload: Preload, scratch: str) -> None:
        self._preload = preload
        self._scratch = scratch
        self._tls = patches.tls_context(None)
        self._deno = patches.js_runtime(preload.deno_path)

    def ordinary(self) -> None:
        video = self._extract(PLAYER)
        _expect("the chosen format", video.get("format_id"), "251")
        _expect("the title", video.get("title"), "-")
        _expect("the duration", video.get("duration"), 1)

    def two_languages(self) -> None:
        """The original in AAC must win against a dubbed track in Opus."""
        dubbed = {"displayName": "German", "id": "de.3", "audioIsDefault": False}
        original = {"displayName": "English original", "id": "en.4", "audioIsDefault": True}
        sounds = [
            media_format(251, _OPUS, **SOUND, audioTrack=dubbed),
            media_format(140, _AAC, **SOUND, audioTrack=original),
        ]
        video = self._extract(PLAYER | {"streamingData": {"adaptiveFormats": sounds}})
        _expect("the chosen language", video.get("language"), "en")

    def scrambled(self) -> None:
        link = "https://rehearsal.googlevideo.com/videoplayback?itag=251&n=abcdef"
        sound = media_format(251, _OPUS, **SOUND)
        del sound["url"]
        sound["signatureCipher"] = urllib.parse.urlencode({"s": "x12345", "sp": "sig", "url": link})
        video = self._extract(PLAYER | {"streamingData": {"adaptiveFormats": [sound]}})
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(str(video.get("url"))).query)
        _expect("the challenge n", query.get("n"), ["fedcba"])
        _expect("the signature", query.get("sig"), ["54321"])

    def without_links(self) -> None:
        sound = media_format(251, _OPUS, **SOUND)
        del sound["url"]
        _expect("the error", self._refusal({"streamingData": {"adaptiveFormats": [sound]}}), "extractor_broken")

    def refusals(self) -> None:
        for status, reason, code in _REFUSALS:
            refused = {"playabilityStatus": {"status": status, "reason": reason}, "streamingData": {}}
            _expect(f"the error of {reason!r}", self._refusal(refused), code.value)

    def _extract(self, response: Mapping[str, Any]) -> Mapping[str, Any]:
        return self._extractor(response).extract()

    def _refusal(self, changed: dict[str, Any]) -> str:
        """Return the error code of an extraction that must fail."""
        extractor = self._extractor(PLAYER | changed)
        try:
            extractor.extract()
        except (RefusedError, YoutubeDLError) as error:
            return extractor.code_of(error)[0].value
        return "none"

    def _extractor(self, response: Mapping[str, Any]) -> Extractor:
        downloader = RehearsalDownloader(options(self._preload), self._tls, self._deno)
        downloader.player_response, downloader.player_script = json.encode(response), _SCRIPT
        task = Extraction(
            video_id=VIDEO_ID,
            scratch=self._scratch,
            cookies_file=None,
            max_duration_seconds=60,
            max_file_bytes=10**6,
            rungs=(Rung(clients=(_CLIENT,)),),
        )
        return Extractor(downloader, task)


def _expect(what: str, found: object, known: object) -> None:
    if found != known:
        raise _UnexpectedError(f"{what} is {found!r}, and not {known!r}")
