"""What each player client gets from YouTube, as far as it is publicly known (autumn 2026).

Sources: the client table of yt-dlp 2026.10.26 (`extractor/youtube/_base.py`), its wiki page on PO tokens and its issues
12482 (SABR) and 17456 (`ANDROID_VR` refused). What the television clients really send is not known; scrambled links are
the harder case for a client of ours.
"""

import dataclasses
from typing import Final

from .behaviour import Client, Links


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    links: Links = Links.PLAIN
    needs_token: bool = False  # media are 403 without a PO token (`pot`)
    has_hls: bool = False  # an HLS manifest also for recordings
    needs_login: bool = False
    is_refused: bool = False  # media are 403 from the first byte on


ALIKE: Final = Traits()
TRAITS: Final[dict[Client, Traits]] = {
    Client.WEB: Traits(links=Links.SABR),
    Client.MWEB: Traits(links=Links.SCRAMBLED, needs_token=True),
    Client.WEB_EMBEDDED: Traits(links=Links.SCRAMBLED),
    Client.WEB_MUSIC: Traits(links=Links.SCRAMBLED, needs_token=True),
    Client.WEB_CREATOR: Traits(needs_login=True),
    Client.TV: Traits(links=Links.SCRAMBLED),
    Client.TV_SIMPLY: Traits(links=Links.SCRAMBLED, needs_token=True),
    Client.ANDROID: Traits(needs_token=True),
    Client.ANDROID_VR: Traits(is_refused=True),
    Client.IOS: Traits(needs_token=True, has_hls=True),
    Client.VISIONOS: Traits(has_hls=True),
}


def client_named(name: str) -> Client:
    """Return the client of a request; one that is not in the table counts as the web page's."""
    try:
        return Client(name)
    except ValueError:
        return Client.WEB
