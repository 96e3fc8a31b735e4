"""The places where yt-dlp is changed from outside are still there, and each change still has its effect.

When one of these tests fails after an update of yt-dlp, `ytmp3/converter/youtube/patches.py` must follow it.
"""

import socket
from typing import Any

import pytest
from yt_dlp import YoutubeDL
from yt_dlp.networking import Request
from yt_dlp.networking import _urllib as yt_dlp_urllib
from yt_dlp.networking.exceptions import RequestError

from ytmp3.converter.youtube import patches
from ytmp3.converter.youtube.connecting import Route
from ytmp3.converter.youtube.downloader import Downloader, options
from ytmp3.converter.youtube.egress import YoutubeOnly
from ytmp3.converter.youtube.events import Preload
from ytmp3.converter.youtube.places import missing
from ytmp3.converter.youtube.responses import BoundedResponses

PRELOAD = Preload(egress_proxy=None, egress_ca_file=None, deno_path=None)


def downloader(tls: object = None, runtime: object = None) -> Downloader:
    return Downloader(options(PRELOAD), tls, runtime)


def opener_of(own: Downloader) -> Any:
    """Return the urllib OpenerDirector with which yt-dlp sends all requests of this downloader."""
    (handler,) = own._request_director.handlers.values()
    return handler._get_instance(proxies={}, cookiejar=own.cookiejar)


def test_every_changed_place_exists_with_its_parameters() -> None:
    assert missing() == []


def test_requests_use_the_shared_tls_context() -> None:
    tls = patches.tls_context(None)
    contexts = [each._context for each in opener_of(downloader(tls)).handlers if hasattr(each, "_context")]
    assert tls in contexts


def test_requests_pass_the_guards_before_the_handlers_of_yt_dlp() -> None:
    opener = opener_of(downloader(patches.tls_context(None)))
    kinds = [type(handler) for handler in opener.handlers]
    assert YoutubeOnly in kinds
    # Responses are handled in the order of the handlers: the bound comes before yt-dlp decompresses.
    responding = [type(handler) for handler in opener.process_response["https"]]
    assert responding.index(BoundedResponses) < responding.index(yt_dlp_urllib.HTTPHandler)


def test_urllib_is_the_only_way_out() -> None:
    assert list(downloader()._request_director.handlers) == ["Urllib"]


def test_the_javascript_runtime_is_not_started_again_for_its_version() -> None:
    runtime = object()
    assert downloader(runtime=runtime)._js_runtimes == {"deno": runtime}


def test_yt_dlp_supports_deno_as_a_runtime() -> None:
    assert patches.js_runtime("/nonexistent/deno").info is None


def test_solutions_are_forgotten() -> None:
    own = downloader()
    extractor = own.get_info_extractor("Youtube")
    extractor._store_player_data_to_cache(
        "solution", "n", "https://www.youtube.com/s/player/00000000/base.js", "challenge"
    )
    assert len(extractor._player_cache) == 1
    patches.forget_solutions(own)
    assert extractor._player_cache == {}


def test_yt_dlp_names_the_solver_that_it_was_released_with() -> None:
    assert patches.wanted_ejs_version() == patches.installed_ejs_version()


def test_connections_go_through_the_replaced_function(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []

    def connect(address: tuple[str, int], *_: object, **__: object) -> socket.socket:
        asked.append(address)
        raise ConnectionRefusedError("no connections in this test")

    monkeypatch.setattr(yt_dlp_urllib, "create_connection", connect)
    with pytest.raises(RequestError, match="no connections in this test"):
        downloader(patches.tls_context(None)).urlopen(Request("https://www.youtube.com/"))
    assert asked == [("www.youtube.com", 443)]


def test_racing_addresses_replaces_the_function_that_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    own = yt_dlp_urllib.create_connection
    monkeypatch.setattr(yt_dlp_urllib, "create_connection", own)  # so that it is restored after this test
    patches.race_addresses(Route())
    assert yt_dlp_urllib.create_connection is not own


def test_names_are_resolved_through_the_replaced_function(monkeypatch: pytest.MonkeyPatch) -> None:
    inside = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 443))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [inside])
    patches.resolve_public_addresses_only()
    with pytest.raises(RequestError, match="no public address"):
        downloader(patches.tls_context(None)).urlopen(Request("https://www.youtube.com/"))


def test_a_warning_is_kept_and_still_passed_on(capsys: pytest.CaptureFixture[str]) -> None:
    own = downloader()
    YoutubeDL.report_warning(own, "only yt-dlp's")
    own.report_warning("HTTP Error 429")
    assert own.evidence.kinds() == {"rate_limited": 1}
    assert "HTTP Error 429" in capsys.readouterr().err
