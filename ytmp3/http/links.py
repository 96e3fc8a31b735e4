"""Signed download links: a link gives access to one track without an API key, until a time. Pure.

Players, phones and `<audio>` cannot send an API key, so without signed links they could not use `download_url`. A link
contains the time of its end, and an HMAC of the job's id and that time. Links are not stored: every instance with the
same secret can check them.

    /download/ID.mp3?until=1795000000&signature=...        until: seconds since 1970, by the job store's clock
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Final

SECRET_BYTES: Final = 32
"""Length of the secret, in bytes: as long as the hash, as RFC 2104, section 3 advises."""
_PURPOSE: Final = b"ytmp3 download link 1"
"""Part of every signed text, so that the same secret can be used for other purposes too."""
_UNTIL: Final = re.compile(r"[0-9]{1,12}", re.ASCII)
STEPS: Final = 10
"""Number of different links that a job shows within DOWNLOAD_LINK_SECONDS. Each link is shown for one tenth of that
time, so the JSON of a job can be cached, and a browser can cache the track. A link is therefore valid for at least nine
tenths of DOWNLOAD_LINK_SECONDS."""


class LinkSigner:
    """Makes and checks links. `seconds`: how long a link lasts. Instances that share jobs need the same `secret`."""

    def __init__(self, secret: bytes, *, seconds: int) -> None:
        self._secret = secret
        self._seconds = seconds
        self._step = max(1, seconds // STEPS)

    def end(self, now: float, expires_at: float | None) -> int:
        """Return the end of a link that is shown now. No link lasts longer than the track, until `expires_at`."""
        until = int(now) // self._step * self._step + self._seconds
        return until if expires_at is None else min(until, int(expires_at))

    def query(self, job_id: str, until: int) -> str:
        """Return the query part of a signed link."""
        return f"until={until}&signature={self._signature(job_id, str(until))}"

    def verified_end(self, job_id: str, untils: Sequence[str], signatures: Sequence[str]) -> int | None:
        """Return when a link ends, or None if its signature is not valid. The caller compares the end with the time.

        `untils` and `signatures` are the values of the two parameters. Each must occur exactly once.
        """
        if len(untils) != 1 or len(signatures) != 1 or not _UNTIL.fullmatch(untils[0]):
            return None
        expected = self._signature(job_id, untils[0]).encode()
        # The comparison takes constant time, so that its duration does not reveal how many characters are correct.
        is_ours = hmac.compare_digest(expected, signatures[0].encode("utf-8", "replace"))
        return int(untils[0]) if is_ours else None

    def _signature(self, job_id: str, until: str) -> str:
        text = b"\n".join((_PURPOSE, job_id.encode("utf-8", "replace"), until.encode()))
        digest = hmac.digest(self._secret, text, hashlib.sha256)
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
