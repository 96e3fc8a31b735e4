"""Signed download links: whoever has one can fetch one track without an API key, until it ends. Pure.

Players, phones and `<audio>` send no header of ours, so where keys are in use they could not follow `download_url`. The
link carries the time of its end and an HMAC over the job's id and that time. Nothing about it is stored: every
instance that has the same secret can check it.

    /download/ID.mp3?until=1795000000&signature=...        until: seconds since 1970, by the job store's clock
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Final

SECRET_BYTES: Final = 32
"""Length of the secret: as long as the hash, as RFC 2104, section 3 advises."""
_PURPOSE: Final = b"ytmp3 download link 1"
"""Part of every signed text, so that the secret can sign other things one day."""
_UNTIL: Final = re.compile(r"[0-9]{1,12}", re.ASCII)
STEPS: Final = 10
"""A link lasts DOWNLOAD_LINK_SECONDS less up to one tenth of it: the same link is shown for that long, so the JSON of a
job can be cached, and so can the track in a browser."""


class LinkSigner:
    """Makes and checks links. `seconds`: how long a link lasts. Instances that share jobs need the same `secret`."""

    def __init__(self, secret: bytes, *, seconds: int) -> None:
        self._secret = secret
        self._seconds = seconds
        self._step = max(1, seconds // STEPS)

    def end(self, now: float, expires_at: float | None) -> int:
        """Return when a link that is shown now ends. No link lasts longer than the track, which expires then."""
        until = int(now) // self._step * self._step + self._seconds
        return until if expires_at is None else min(until, int(expires_at))

    def query(self, job_id: str, until: int) -> str:
        """Return the query that makes the address of a job's track a link."""
        return f"until={until}&signature={self._signature(job_id, str(until))}"

    def verified_end(self, job_id: str, untils: Sequence[str], signatures: Sequence[str]) -> int | None:
        """Return when a link ends, or None if it is not one of ours. The caller compares the end with the time.

        `untils` and `signatures`: the values of the two parameters, each of which must come exactly once.
        """
        if len(untils) != 1 or len(signatures) != 1 or not _UNTIL.fullmatch(untils[0]):
            return None
        expected = self._signature(job_id, untils[0]).encode()
        # In constant time: an early end of the comparison would tell how much of a guess is right.
        is_ours = hmac.compare_digest(expected, signatures[0].encode("utf-8", "replace"))
        return int(untils[0]) if is_ours else None

    def _signature(self, job_id: str, until: str) -> str:
        text = b"\n".join((_PURPOSE, job_id.encode("utf-8", "replace"), until.encode()))
        digest = hmac.digest(self._secret, text, hashlib.sha256)
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
