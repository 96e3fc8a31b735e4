"""Makes yt-dlp ask the server's solver first, through its public interface for challenge providers.

yt-dlp (extractor/youtube/jsc/provider.py) tries its providers by preference and goes on to the next one after a
rejection. Its own provider for deno has the preference 1000 and stays as the fallback.
"""

from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from yt_dlp.extractor.youtube.jsc.provider import (
    JsChallengeProvider,
    JsChallengeProviderRejectedRequest,
    JsChallengeProviderResponse,
    JsChallengeRequest,
    JsChallengeResponse,
    JsChallengeType,
    NChallengeOutput,
    SigChallengeOutput,
    register_preference,
    register_provider,
)

from ytmp3.converter.solver.messages import Challenges
from ytmp3.converter.youtube.solver_client import NoSolutionError, SolverClient

PREFERENCE: Final = 2000
"""Above that of yt-dlp's provider for deno."""


class WarmSolverJCP(JsChallengeProvider):  # type: ignore[misc]
    """yt-dlp derives the provider's name from the name of this class, which has to end with JCP."""

    PROVIDER_NAME = "ytmp3-solver"
    BUG_REPORT_LOCATION = "(the operator of this ytmp3 server)"
    _SUPPORTED_TYPES = (JsChallengeType.N, JsChallengeType.SIG)

    def is_available(self) -> bool:
        """Whether this process has a connection to the solver, and it did not fail yet."""
        return self._client is not None and self._client.is_usable

    @property
    def _client(self) -> SolverClient | None:
        client: SolverClient | None = getattr(self.ie._downloader, "solver", None)  # noqa: SLF001  as yt-dlp's own do
        return client

    def _real_bulk_solve(self, requests: list[JsChallengeRequest]) -> Iterator[JsChallengeProviderResponse]:
        by_player: dict[str, list[JsChallengeRequest]] = {}
        for request in requests:
            by_player.setdefault(request.input.player_url, []).append(request)
        for player_url, of_player in by_player.items():
            try:
                results = self._solve(player_url, of_player)
            except NoSolutionError as error:
                raise JsChallengeProviderRejectedRequest(str(error)) from error
            for request, result in zip(of_player, results, strict=True):
                yield JsChallengeProviderResponse(request, _response(request.type, result))

    def _solve(self, player_url: str, requests: list[JsChallengeRequest]) -> list[dict[str, str]]:
        client, player = self._client, urlsplit(player_url).path
        assert client is not None
        challenges = [Challenges(kind=each.type.value, challenges=each.input.challenges) for each in requests]
        results = client.solve(player, challenges, None)
        if results is None:
            script = self._get_player(requests[0].video_id, player_url)
            results = client.solve(player, challenges, script)
        if results is None:
            raise NoSolutionError("the solver wants the script again")
        return results


def register() -> None:
    """Make yt-dlp use the provider in this process. It is skipped by a downloader without a `solver`. Call once."""
    register_provider(WarmSolverJCP)
    register_preference(WarmSolverJCP)(_preference)


def _preference(*_: Any) -> int:
    return PREFERENCE


def _response(kind: JsChallengeType, result: dict[str, str]) -> JsChallengeResponse:
    output = NChallengeOutput if kind is JsChallengeType.N else SigChallengeOutput
    return JsChallengeResponse(kind, output(result))
