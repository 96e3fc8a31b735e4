"""Extraction of one video with yt-dlp, in a forked child process, with our own checks of the result.

The checks (the right video, live, length, size, a format with sound) come before the download. Where the clients of one
rung of the ladder fail, those of the next are asked.
"""

import sys
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from msgspec import structs
from yt_dlp.networking.exceptions import HTTPError
from yt_dlp.utils import YoutubeDLError

from ytmp3.converter.youtube.choice import Wanted, candidates
from ytmp3.converter.youtube.downloader import MESSAGE_CHARACTERS, Downloader
from ytmp3.converter.youtube.events import Extraction, Facts
from ytmp3.converter.youtube.evidence import Formats, client_of_link, count_formats
from ytmp3.converter.youtube.ladder import BLAMED, CURABLE, Way
from ytmp3.converter.youtube.metadata import clean_duration, without_queries
from ytmp3.converter.youtube.patches import clients_named
from ytmp3.converter.youtube.signs import Sign, sign_of_failure
from ytmp3.converter.youtube.solver_client import is_solved
from ytmp3.converter.youtube.verdict import judge_error, judge_formats
from ytmp3.core.errors import FailureCode
from ytmp3.core.language import ORIGINAL
from ytmp3.core.link import canonical_link
from ytmp3.core.recipe import Format

_FORMAT_FIELDS: Final = ("format_id", "acodec", "abr", "language", "protocol")
"""What the log says of the chosen format: its number, codec, rate in kbit/s, language and protocol."""


class RefusedError(Exception):
    """A check of ours refuses the video."""

    def __init__(self, code: FailureCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Extractor:
    """The extractions of one child. `before_extraction` is called before each time that YouTube is asked."""

    def __init__(
        self, downloader: Downloader, extraction: Extraction, before_extraction: Callable[[], object] = lambda: None
    ) -> None:
        self._before_extraction = before_extraction
        self._downloader = downloader
        self._task = extraction
        self._formats = Formats()
        self._is_extracted = False
        self._link = ""
        self.way = Way(extraction.rungs, [each for name in extraction.left_out for each in clients_named(name)])
        """Whom this conversion asks."""
        self.refused_clients: list[str] = []
        """The clients whose links were refused, by YouTube's names."""
        downloader.evidence.has_cookies = extraction.cookies_file is not None
        downloader.params["cookiefile"] = extraction.cookies_file

    @property
    def client(self) -> str:
        """The client whose link was chosen, by YouTube's name; empty: none, or the link does not say."""
        return client_of_link(self._link)

    def extract(self) -> dict[str, Any]:
        """Extract by one rung after the other, as long as the next one may do better. Returns the chosen format.

        Raises:
            RefusedError: a check of ours refuses the video.
            YoutubeDLError: it cannot be extracted.
        """
        bot_check: RefusedError | None = None
        while True:
            self._choose_clients()
            try:
                video = self._extract_once()
            except (RefusedError, YoutubeDLError) as error:
                code, _ = self.code_of(error)
                if code is FailureCode.BOT_CHECK:
                    bot_check = RefusedError(code, str(error))
                if code not in CURABLE or not self.way.step_on(is_blamed=code in BLAMED):
                    # A refusal of the address explains more than the formats that other clients did not list.
                    if code is FailureCode.EXTRACTOR_BROKEN and bot_check is not None:
                        raise bot_check from error
                    raise
                self._downloader.evidence.begin_again()
                sys.stderr.write(f"other clients after: {shown(str(error))}\n")
            else:
                self._link, self._is_extracted = str(video.get("url") or ""), True
                return video

    def _choose_clients(self) -> None:
        arguments = self._downloader.params["extractor_args"]["youtube"]
        arguments.pop("player_client", None)
        if clients := self.way.player_clients:
            arguments["player_client"] = clients

    def _extract_once(self) -> dict[str, Any]:
        """Return what yt-dlp found, with the chosen format.

        The listed formats are judged before yt-dlp chooses one: its "requested format is not available" would not say
        whether YouTube listed anything at all.
        """
        self._before_extraction()
        listed: dict[str, Any] = self._downloader.extract_info(
            canonical_link(self._task.video_id), download=False, process=False
        )
        self._check_identity(listed)
        self._check_liveness(listed)
        self._formats = count_formats(listed.get("formats") or ())
        verdict = judge_formats(self._formats, self._downloader.evidence)
        if verdict is not None:
            raise RefusedError(verdict.code, f"no format with sound: {self._formats}")
        is_post_live = listed.get("live_status") == "post_live"
        self._downloader.wanted = wanted = Wanted(
            format=self._task.format,
            language=self._task.language,
            excluded=frozenset(self._task.excluded_formats),
            is_post_live=is_post_live,
            seconds=clean_duration(listed.get("duration")),
        )
        self._check_offer(listed["formats"], wanted)
        video: dict[str, Any] = self._downloader.process_ie_result(listed, download=False)
        self._check(video)
        return video

    def _check_offer(self, formats: list[dict[str, Any]], wanted: Wanted) -> None:
        """Refuse a video that has sound, but not the wanted one."""
        if candidates(formats, wanted):
            return
        of_any_codec = structs.replace(wanted, format=Format.MP3)
        of_any_language = structs.replace(of_any_codec, language=ORIGINAL)
        if candidates(formats, of_any_codec):
            raise RefusedError(FailureCode.FORMAT_UNAVAILABLE, f"no {wanted.format}: {self._formats}")
        if candidates(formats, of_any_language):
            raise RefusedError(FailureCode.LANGUAGE_UNAVAILABLE, f"no {wanted.language}: {self._formats}")
        if wanted.is_post_live:
            raise RefusedError(FailureCode.UPSTREAM_ERROR, "a stream that has just ended, with no whole format yet")

    def _check_identity(self, listed: object) -> None:
        """Refuse every other video than the one that was asked for."""
        if not isinstance(listed, dict):
            raise RefusedError(FailureCode.VIDEO_UNAVAILABLE, "not a single video")
        if listed.get("_type", "video") in {"url", "url_transparent"}:
            # yt-dlp goes on to the trailer of a film that must be bought.
            raise RefusedError(FailureCode.MEMBERS_ONLY, "the answer is another video: a trailer")
        if listed.get("_type", "video") != "video":
            raise RefusedError(FailureCode.VIDEO_UNAVAILABLE, "not a single video")
        if listed.get("id") != self._task.video_id:
            raise RefusedError(FailureCode.EXTRACTOR_BROKEN, "the answer is another video")

    def _check_liveness(self, video: dict[str, Any]) -> None:
        match video.get("live_status"):
            case "is_live":
                raise RefusedError(FailureCode.LIVE, "live")
            case "is_upcoming":
                raise RefusedError(FailureCode.UPCOMING, "upcoming")

    def _check(self, video: dict[str, Any]) -> None:
        duration, size = video.get("duration"), announced_bytes(video)
        if duration and duration > self._task.max_duration_seconds:
            raise RefusedError(FailureCode.TOO_LONG, f"{duration} s announced")
        if size and size > self._task.max_file_bytes:
            raise RefusedError(FailureCode.TOO_LARGE, f"{size} bytes announced")
        if not video.get("url") or video.get("acodec") == "none":
            raise RefusedError(FailureCode.EXTRACTOR_BROKEN, "the chosen format has no sound")

    def leave_out_client(self) -> bool:
        """Leave out the client whose link has failed. Returns False if nobody is left to ask."""
        if not self.client:
            return self.way.step_on(is_blamed=True)
        self.refused_clients.append(self.client)
        return self.way.leave_out(clients_named(self.client))

    def code_of(self, error: Exception) -> tuple[FailureCode, Sign | None]:
        """Return the verdict on an error, and what the operator should know besides."""
        if isinstance(error, RefusedError):
            return error.code, None
        text = f"{type(error).__name__}: {error}"
        verdict = judge_error(text, self._task.video_id, self._downloader.evidence, is_extracted=self._is_extracted)
        if verdict.code is FailureCode.UPSTREAM_ERROR and is_forbidden(error) and is_solved(self._link):
            # Also after a fresh extraction. YouTube refuses wrong solutions of its challenges in this way.
            return FailureCode.EXTRACTOR_BROKEN, Sign.SOLUTION_REFUSED
        return verdict.code, sign_of_failure(text) if verdict.is_known else Sign.UNKNOWN_MESSAGE

    def facts(self) -> Facts:
        """Return what the extractions have met until now."""
        return Facts(
            rung=self.way.rung,
            failed_rungs=tuple(self.way.failed),
            client=self.client,
            formats=self._formats,
            signs=self._downloader.evidence.kinds(),
        )


def announced_bytes(video: dict[str, Any]) -> int | None:
    """Return the size of the chosen format, in bytes, None if YouTube does not announce it."""
    size = video.get("filesize")
    return size if isinstance(size, int) and size > 0 else None


def format_in_words(video: dict[str, Any]) -> str:
    """Return the chosen format in words, for the log."""
    return " ".join(str(video[name])[:40] for name in _FORMAT_FIELDS if video.get(name) is not None)


def is_forbidden(error: BaseException) -> bool:
    """Whether YouTube has answered 403."""
    return isinstance(error, HTTPError) and error.status == HTTPStatus.FORBIDDEN


def shown(text: str) -> str:
    """Return a message as it may go to the server's log: bounded, valid UTF-8, addresses cut to their host."""
    shortened = without_queries(text[: MESSAGE_CHARACTERS * 4])[:MESSAGE_CHARACTERS]
    return shortened.encode("utf-8", "replace").decode()
