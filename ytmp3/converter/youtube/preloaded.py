"""What the zygote keeps in memory: yt-dlp, ready to extract. Each forked child runs one conversion's download with it.

What is slow and the same each time is done before the fork: imports, the TLS context with its 140 authorities, regular
expressions, the version of the JavaScript runtime. Measured on 2 cores against the fake YouTube of the tests: a whole
extraction and download costs 0.05 s of CPU and 11 MB of private memory. The server never imports this module.
"""

import contextlib
import os
import sys
import traceback
from collections.abc import Callable

# The modules that every extraction and download uses: imported before the fork.
import yt_dlp.downloader.http
import yt_dlp.extractor.youtube
import yt_dlp.version
from msgspec import json
from yt_dlp.utils import YoutubeDLError

from ytmp3.converter.settings import Egress
from ytmp3.converter.youtube import patches, solver_provider, token_provider
from ytmp3.converter.youtube.connecting import Route
from ytmp3.converter.youtube.cover import rehearse_cover
from ytmp3.converter.youtube.describing import describe
from ytmp3.converter.youtube.download import VideoDownload
from ytmp3.converter.youtube.downloader import Downloader, options
from ytmp3.converter.youtube.events import (
    PERMITS_DESCRIPTOR,
    SOLVER_DESCRIPTOR,
    TOKENS_DESCRIPTOR,
    DescribeTask,
    Event,
    Extraction,
    Facts,
    Failed,
    ListTask,
    Preload,
    ProbeTask,
    Versions,
    decode_task,
)
from ytmp3.converter.youtube.extractor import RefusedError, shown
from ytmp3.converter.youtube.listing import list_entries, listing_options
from ytmp3.converter.youtube.permits import wait_for_permit
from ytmp3.converter.youtube.probing import Probe
from ytmp3.converter.youtube.rehearsal import VIDEO_ID, RehearsalDownloader
from ytmp3.converter.youtube.solver_client import SolverClient
from ytmp3.converter.youtube.token_provider import TokenClient
from ytmp3.core.errors import FailureCode
from ytmp3.core.link import canonical_link


class PreloadedYoutube:
    """Made in the zygote; implements `zygote.Preloaded`. `run` is called in a forked child, once."""

    def __init__(self, preload: Preload) -> None:
        self._preload = preload
        solver_provider.register()
        token_provider.register()
        tls = patches.tls_context(preload.egress_ca_file)
        self._deno = patches.js_runtime(preload.deno_path)
        rehearsal = RehearsalDownloader(options(preload), tls, self._deno)
        with contextlib.suppress(Exception):  # its only purpose is what it leaves in memory
            video = rehearsal.extract_info(canonical_link(VIDEO_ID), download=False)
            rehearsal.dl(os.devnull, video)
        rehearse_cover()
        self._downloader = Downloader(options(preload), tls, self._deno)
        self._downloader.get_info_extractor("Youtube")
        self._lister = Downloader(listing_options(preload), tls, self._deno)
        self._lister.get_info_extractor("YoutubeTab")

    def ready(self) -> bytes:
        """Return the versions of what is loaded: a Versions, as JSON."""
        return json.encode(
            Versions(
                yt_dlp=yt_dlp.version.__version__,
                yt_dlp_ejs=patches.installed_ejs_version(),
                ejs_wanted=patches.wanted_ejs_version(),
                deno=self._deno.info.version if self._deno.info else None,
                default_clients=patches.default_clients(has_cookies=False),
                default_clients_with_cookies=patches.default_clients(has_cookies=True),
            )
        )

    def _connect(self, extraction: Extraction) -> None:
        """Take over the connections to the server that this child has."""
        if extraction.solver_seconds is not None:
            self._downloader.solver = SolverClient(SOLVER_DESCRIPTOR, extraction.solver_seconds)
        if extraction.token_seconds is not None:
            self._downloader.tokens = TokenClient(TOKENS_DESCRIPTOR, extraction.token_seconds)

    def run(self, task: bytes, events: int, leave_everything: Callable[[], object]) -> int:
        """Extract and download one video; return the exit status. The outcome is also an event.

        `task` is an Extraction, a ListTask to read a playlist, a DescribeTask of `POST /probe`, or a ProbeTask of
        `ytmp3 doctor`, as JSON.
        `leave_everything` is called once all bytes have arrived, before a picture from the network is decoded.
        """

        def emit(event: Event) -> None:
            os.write(events, json.encode(event) + b"\n")

        try:
            given = decode_task(task)
            # What the JavaScript runtime writes is then removed together with the scratch folder.
            os.environ["HOME"] = os.environ["TMPDIR"] = given.scratch
            os.chdir(given.scratch)
            egress = (given if isinstance(given, Extraction | ListTask) else given.extraction).egress or Egress(
                proxy=self._preload.egress_proxy,
                family=self._preload.egress_family,
                source_address=self._preload.egress_source_address,
            )
            if egress.proxy is None:
                # With a proxy, the proxy resolves names, and its own address is the operator's choice.
                patches.resolve_public_addresses_only()
            route = Route(egress.family, egress.source_address)
            patches.race_addresses(route)
            if isinstance(given, ListTask):
                self._lister.params["proxy"] = egress.proxy
                return list_entries(self._lister, given, emit)
            extraction = given if isinstance(given, Extraction) else given.extraction
            # yt-dlp reads the proxy before the first request of this process.
            self._downloader.params["proxy"] = egress.proxy
            self._connect(extraction)
            if isinstance(given, DescribeTask):
                return describe(self._downloader, given, emit, route)
            if isinstance(given, ProbeTask):
                Probe(self._downloader, given, emit, route).run()
                return 0
            download = VideoDownload(
                self._downloader,
                extraction,
                emit,
                before_extraction=route.forget,
                wait_for_permit=lambda: wait_for_permit(PERMITS_DESCRIPTOR),
            )
        except Exception as error:  # noqa: BLE001  the outermost frame of the child: it reports and ends
            traceback.print_exc()
            emit(Failed(code=FailureCode.TOOL_MISSING.value, reason=shown(repr(error)), facts=Facts()))
            return 1
        try:
            download.make_cover(download.run(), leave_everything)
        except Exception as error:  # noqa: BLE001  the outermost frame of the child: it reports and ends
            if not isinstance(error, YoutubeDLError | RefusedError):
                traceback.print_exc()
            emit(download.failure(error))
        else:
            return 0
        sys.stderr.flush()
        return 1
