"""The addresses that answers hold: of a job and of its track. Pure.

All of them are paths, because the host is the one that the client asked. Where a proxy serves the service below a path
of its own, that path is put in front: the proxy takes it away again.
"""

from ytmp3.http.links import LinkSigner


class Addresses:
    """Makes the addresses.

    `public_path` is the path of PUBLIC_URL, such as `/ytmp3`; empty at the root of a host. `signer` makes the address
    of a track a link that needs no API key; None: such links are not in use.
    """

    def __init__(self, *, public_path: str = "", signer: LinkSigner | None = None) -> None:
        self._public_path = public_path
        self.signer = signer

    def of_job(self, job_id: str) -> str:
        """Return where the job is read."""
        return f"{self._public_path}/status/{job_id}"

    def of_track(self, job_id: str, extension: str, link_until: int | None = None) -> str:
        """Return where the track of the job is downloaded: until `link_until` by anybody; None: by those who may."""
        path = f"{self._public_path}/download/{job_id}.{extension}"
        if self.signer is None or link_until is None:
            return path
        return f"{path}?{self.signer.query(job_id, link_until)}"
