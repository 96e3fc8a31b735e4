"""Every place where yt-dlp or the interpreter is changed from outside, or yt-dlp is used beyond its public interface.

A new release of yt-dlp may move any of them. `places` lists them with the parameters that this code relies on, and
tests/process/test_yt_dlp_patches.py fails when one has moved, or when a change no longer has its effect. Replacing is
done here; the methods that are overridden are in `downloader` and `rehearsal`.
"""

import contextlib
import socket
import subprocess
import urllib.request
from collections.abc import Iterable
from importlib import metadata as packages
from typing import Any, cast

import yt_dlp.networking._urllib
from yt_dlp import YoutubeDL
from yt_dlp.extractor.youtube import YoutubeIE
from yt_dlp.extractor.youtube._base import INNERTUBE_CLIENTS
from yt_dlp.globals import supported_js_runtimes
from yt_dlp.networking._helper import create_connection, make_ssl_context
from yt_dlp.networking._urllib import UrllibRH

from ytmp3.converter.youtube.connecting import Route
from ytmp3.converter.youtube.egress import public_only


def resolve_public_addresses_only() -> None:
    """Make every later name resolution of this process return public addresses only. Called in a forked child."""
    socket.getaddrinfo = public_only(socket.getaddrinfo)


def race_addresses(route: Route) -> None:
    """Make yt-dlp connect by this route, to the first address that answers. Called in a forked child.

    yt-dlp itself tries one address after the other, and waits for a dead one as long as for any response.
    """

    def connect(
        address: tuple[str, int], timeout: float, source_address: tuple[str, int] | None = None, **socks: Any
    ) -> socket.socket:
        if socks:
            # This socket speaks to a SOCKS proxy before it counts as connected: one address after the other.
            return cast("socket.socket", create_connection(address, timeout, source_address, **socks))
        return route.connect(socket.getaddrinfo(*address, 0, socket.SOCK_STREAM), timeout)

    yt_dlp.networking._urllib.create_connection = connect  # noqa: SLF001  yt-dlp has no public hook


def tls_context(ca_file: str | None) -> Any:
    """Make the TLS context that all connections share. It trusts the system's authorities and those in `ca_file`.

    Raises:
        OSError, ssl.SSLError: `ca_file` cannot be read.
    """
    context = make_ssl_context(use_certifi=False)
    if ca_file:
        context.load_verify_locations(cafile=ca_file)
    return context


def use_in_handler(handler: UrllibRH, tls: Any, guards: Iterable[type[urllib.request.BaseHandler]]) -> None:
    """Make a request handler use this TLS context, and add the guards to each opener that it makes."""
    handler._make_sslcontext = lambda legacy_ssl_support=None: tls  # noqa: ARG005, SLF001  yt-dlp has no public hook
    make_opener = handler._create_instance  # noqa: SLF001  yt-dlp has no public hook

    def make_guarded_opener(**settings: Any) -> urllib.request.OpenerDirector:
        opener: urllib.request.OpenerDirector = make_opener(**settings)
        for guard in guards:
            opener.add_handler(guard())
        return opener

    handler._create_instance = make_guarded_opener  # noqa: SLF001  yt-dlp has no public hook


def js_runtime(path: str | None) -> Any:
    """Return yt-dlp's object for the deno at this path, with its version already asked for (`info`, None if broken)."""
    runtime = supported_js_runtimes.value["deno"](path=path)
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        _ = runtime.info
    return runtime


def use_js_runtime(downloader: YoutubeDL, runtime: Any) -> None:
    """Give a downloader this runtime. It would otherwise start deno in every conversion to ask for its version."""
    downloader.__dict__["_js_runtimes"] = {"deno": runtime}


def forget_solutions(downloader: YoutubeDL) -> None:
    """Make the next extraction of this process solve its challenges again, instead of reusing a wrong solution."""
    downloader.get_info_extractor("Youtube")._player_cache.clear()  # noqa: SLF001  yt-dlp has no public way


def clients_named(name: str) -> tuple[str, ...]:
    """Return yt-dlp's names of the player clients that YouTube knows so: `tv` and others for TVHTML5."""
    return tuple(
        client
        for client, settings in INNERTUBE_CLIENTS.items()
        if settings["INNERTUBE_CONTEXT"]["client"]["clientName"] == name
    )


def default_clients(*, has_cookies: bool) -> tuple[str, ...]:
    """Return the player clients that yt-dlp asks by its own choice."""
    return tuple(YoutubeIE._DEFAULT_AUTHED_CLIENTS if has_cookies else YoutubeIE._DEFAULT_CLIENTS)  # noqa: SLF001  internal


def installed_ejs_version() -> str | None:
    """Return the version of the installed challenge solver (yt-dlp-ejs), None if it is not installed."""
    try:
        return packages.version("yt-dlp-ejs")
    except packages.PackageNotFoundError:
        return None


def wanted_ejs_version() -> str | None:
    """Return the version of the challenge solver that this yt-dlp was released with, None if it has moved away."""
    try:
        from yt_dlp.extractor.youtube.jsc._builtin.vendor import _info  # noqa: PLC0415  internal: may move away
    except ImportError:
        return None
    return str(_info.VERSION)
