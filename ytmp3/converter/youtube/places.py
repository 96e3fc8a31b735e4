"""The names inside yt-dlp that this service overrides, replaces or reads beyond yt-dlp's public interface.

A new release of yt-dlp may move any of them. `missing` says which, before any of our modules that need them is loaded.
So importing this module does not load yt-dlp.
"""

import errno
import importlib
import inspect
from typing import Any, Final

from msgspec import Struct


class Place(Struct, frozen=True):
    """One name that must exist."""

    module: str
    name: str
    parameters: tuple[str, ...] | None = None
    """Of a function: its parameters in order. None for what is not a function."""


_OF_MACHINE: Final = frozenset(
    {
        *(errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE),
        *(errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ESTALE),
    }
)
"""Errors of the memory, of numbers of processes and files, and of the disk."""

PLACES: Final = (
    # Replaced, in a forked child.
    Place("socket", "getaddrinfo", ("host", "port", "family", "type", "proto", "flags")),
    Place(
        "yt_dlp.networking._urllib",
        "create_connection",
        ("address", "timeout", "source_address", "_create_socket_func"),
    ),
    # Replaced on the one request handler of each Downloader.
    Place("yt_dlp.networking._urllib", "UrllibRH._make_sslcontext", ("self", "legacy_ssl_support")),
    Place(
        "yt_dlp.networking._urllib",
        "UrllibRH._create_instance",
        ("self", "proxies", "cookiejar", "legacy_ssl_support"),
    ),
    # A functools.cached_property, filled in advance on each Downloader.
    Place("yt_dlp", "YoutubeDL._js_runtimes"),
    # Overridden by Downloader or RehearsalDownloader.
    Place("yt_dlp", "YoutubeDL.build_request_director", ("self", "handlers", "preferences")),
    Place("yt_dlp", "YoutubeDL.urlopen", ("self", "req")),
    Place("yt_dlp", "YoutubeDL.report_warning", ("self", "message", "only_once")),
    Place("yt_dlp", "YoutubeDL.write_debug", ("self", "message", "only_once")),
    Place("yt_dlp", "YoutubeDL.to_stderr", ("self", "message", "only_once")),
    # Public in name only: it is in no documentation.
    Place("yt_dlp", "YoutubeDL.process_ie_result", ("self", "ie_result", "download", "extra_info")),
    # Private, and called or read.
    Place("yt_dlp", "YoutubeDL.dl", ("self", "name", "info", "subtitle", "test")),
    Place("yt_dlp.globals", "supported_js_runtimes"),
    Place("yt_dlp.extractor.youtube._base", "INNERTUBE_CLIENTS"),
    Place("yt_dlp.extractor.youtube", "YoutubeIE._DEFAULT_CLIENTS"),
    Place("yt_dlp.extractor.youtube", "YoutubeIE._DEFAULT_AUTHED_CLIENTS"),
    Place(
        "yt_dlp.networking._helper",
        "make_ssl_context",
        (
            *("verify", "client_certificate", "client_certificate_key", "client_certificate_password"),
            *("legacy_support", "use_certifi"),
        ),
    ),
    Place("yt_dlp.extractor.youtube.jsc._builtin.vendor._info", "VERSION"),
)


def missing() -> list[str]:
    """Load yt-dlp, and return a text for each place that has moved; empty: all are there.

    Raises:
        OSError, MemoryError: `is_of_machine` is true for it.
    """
    for module in dict.fromkeys(place.module for place in PLACES):
        try:
            importlib.import_module(module)
        except Exception as error:  # a module of a broken release may raise anything
            if is_of_machine(error):
                raise
            return [f"{module} cannot be imported: {error!r}"]
    return [problem for place in PLACES if (problem := _problem_of(place))]


def is_of_machine(error: Exception) -> bool:
    """Return whether the machine may have caused an error of a release that is tried: its memory, disk or processes."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _OF_MACHINE)


def _problem_of(place: Place) -> str | None:
    name = f"{place.module}.{place.name}"
    found: Any = importlib.import_module(place.module)
    try:
        for part in place.name.split("."):
            # Not getattr on the class, which would call a property.
            found = inspect.getattr_static(found, part)
    except AttributeError:
        return f"{name} is missing"
    if place.parameters is None:
        return None
    parameters = tuple(inspect.signature(found).parameters)
    if parameters == place.parameters:
        return None
    return f"{name} has the parameters {', '.join(parameters)}, and not {', '.join(place.parameters)}"
