"""The addresses that answers hold: of a job and of its track. Pure.

All of them are paths, because the host is the one that the client asked. Where a proxy serves the service below a path
of its own, that path is put in front: the proxy takes it away again.
"""


class Addresses:
    """Makes the addresses. `public_path` is the path of PUBLIC_URL, such as `/ytmp3`; empty at the root of a host."""

    def __init__(self, *, public_path: str = "") -> None:
        self._public_path = public_path

    def of_job(self, job_id: str) -> str:
        """Return where the job is read."""
        return f"{self._public_path}/status/{job_id}"

    def of_track(self, job_id: str, extension: str) -> str:
        """Return where the track of the job is downloaded."""
        return f"{self._public_path}/download/{job_id}.{extension}"
