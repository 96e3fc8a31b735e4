"""Media links: made for one answer to one client, and judged again when they are asked for.

A link looks like googlevideo's. What the fake itself has to know later is in the link, in parameters that begin with
`x`, so no state is kept for it: `xg` is its generation, `xa` the time before which it is refused, `xs` says that it was
scrambled. `ei` is the number of the extraction, `c` the client.
"""

import base64
import functools
import hashlib
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

from .player import Player

MEDIA_HOST: Final = "rr1---sn-fake.googlevideo.com"
OTHER_MEDIA_HOST: Final = "rr5---sn-fake-other.googlevideo.com"
MANIFEST_HOST: Final = "manifest.googlevideo.com"
_EXPIRES: Final = "4102444800"
_SIGNATURE_BYTES: Final = 75  # 100 characters
_N_BYTES: Final = 12  # 16 characters
# What a real link carries besides: with it, one has about 1,000 characters.
_PADDING: Final = {
    "requiressl": "yes",
    "xpc": "EgVo2aDSNQ==",
    "met": "1764100000,",
    "mh": "fK",
    "mm": "31,29",
    "mn": "sn-4g5ednsl,sn-4g5lznl6",
    "ms": "au,rdu",
    "mv": "m",
    "mvi": "1",
    "pl": "48",
    "rms": "au,au",
    "initcwndbps": "3318750",
    "bui": "AdEuB5T" + "k3pQ" * 18,
    "spc": "6b0G_" + "mZ4x" * 8,
    "vprv": "1",
    "svpuc": "1",
    "ns": "h8Zp" * 6,
    "rqh": "1",
    "gir": "yes",
    "lmt": "1733022210000000",
    "mt": "1764099000",
    "fvip": "4",
    "keepalive": "yes",
    "fexp": "51552689,51565116,51565682,51580968",
    "txp": "5532434",
    "sparams": "expire,ei,ip,id,itag,source,requiressl,xpc,bui,spc,vprv,svpuc,xtags,mime,ns,rqh,gir,clen,dur,lmt",
    "lsparams": "met,mh,mm,mn,ms,mv,mvi,pl,rms,initcwndbps",
    "lsig": "APaTxxMwRgIhA" + "Wq7R" * 22,
}


@functools.lru_cache(maxsize=4096)
def _secret(size_bytes: int, *parts: str) -> str:
    digest = hashlib.shake_256("/".join(parts).encode()).digest(size_bytes)
    return base64.urlsafe_b64encode(digest).decode("ascii")


def _signature(identifier: str, extraction: str, itag: str, tags: str) -> str:
    return _secret(_SIGNATURE_BYTES, "signature", identifier, extraction, itag, tags)


def _n(identifier: str, extraction: str) -> str:
    return _secret(_N_BYTES, "n", identifier, extraction)


def media_link(identifier: str, extraction: int, *, is_heavy: bool = False, **more: str) -> str:
    """Return a plain link of one extraction's media. `more` are further parameters."""
    query = {"expire": _EXPIRES, "ei": str(extraction), "id": identifier, "source": "youtube", **more}
    return f"https://{MEDIA_HOST}/videoplayback?{urlencode(query | (_PADDING if is_heavy else {}))}"


def scrambled_link(player: Player, identifier: str, extraction: int, *, is_heavy: bool = False, **more: str) -> str:
    """Return the `signatureCipher` of a link that only the player script can complete."""
    n = player.scramble_n(_n(identifier, str(extraction)))
    bare = media_link(identifier, extraction, is_heavy=is_heavy, **more, n=n, xs="1")
    signature = _signature(identifier, str(extraction), more.get("itag", ""), more.get("xtags", ""))
    return urlencode({"s": player.scramble_signature(signature), "sp": "sig", "url": bare})


def is_solved(link: Mapping[str, str]) -> bool:
    """Return whether a link carries what the player script makes of its challenges, or carried none."""
    if "xs" not in link:
        return True
    identifier, extraction = link.get("id", ""), link.get("ei", "")
    signature = _signature(identifier, extraction, link.get("itag", ""), link.get("xtags", ""))
    return link.get("sig") == signature and link.get("n") == _n(identifier, extraction)


def manifest_link(name: str, identifier: str, extraction: int, *, player: Player | None, **more: str) -> str:
    """Return a manifest's address: parameters are path segments. With a player, it carries an `n` challenge."""
    parts = {"expire": _EXPIRES, "ei": str(extraction), "id": identifier, "source": "youtube", **more}
    if player is not None:
        parts |= {"n": player.scramble_n(_n(identifier, str(extraction))), "xs": "1"}
    return f"https://{MANIFEST_HOST}/api/manifest/{name}/{path_of(parts)}"


def is_manifest_solved(link: Mapping[str, str]) -> bool:
    return "xs" not in link or link.get("n") == _n(link.get("id", ""), link.get("ei", ""))


def path_of(parts: Mapping[str, str]) -> str:
    return "/".join(f"{name}/{value}" for name, value in parts.items())


def parts_of(path: str) -> dict[str, str]:
    """Read `name/value/name/value`; a last name without a value is left out."""
    pieces = path.split("/")
    return dict(zip(pieces[::2], pieces[1::2], strict=False))
