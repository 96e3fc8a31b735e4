"""The addresses in responses: of a job, of its track, of a batch, and of pages of lists. Pure.

All addresses are paths, because the client already knows the host. If a proxy serves the service below a path, that
path is put in front of each address; the proxy removes it from requests.
"""

from aiohttp import hdrs, web

from ytmp3.http.links import LinkSigner


class Addresses:
    """Makes the addresses.

    `public_url` is PUBLIC_URL, such as `https://example.org/ytmp3`, and `public_path` its path. They are empty if it is
    not set; the path also at the root of a host. With `signer`, the address of a track is a signed link that needs no
    API key; None: signed links are not enabled. `download_origin` is the origin of the object store to which downloads
    are redirected; empty: they are not.
    """

    def __init__(
        self,
        *,
        public_path: str = "",
        public_url: str = "",
        signer: LinkSigner | None = None,
        download_origin: str = "",
    ) -> None:
        self._public_path = public_path
        self.public_url = public_url
        self.signer = signer
        self.download_origin = download_origin

    def absolute(self, request: web.Request, path: str) -> str:
        """Return the whole address of a path, for other programs than the client of this request."""
        if self.public_url:
            return f"{self.public_url}{path}"
        # The address that the client has used.
        scheme = "https" if request.headers.get("X-Forwarded-Proto") == "https" else request.scheme
        return f"{scheme}://{request.headers.get(hdrs.HOST, '')}{path}"

    def of_job(self, job_id: str) -> str:
        """Return the address of the job's status."""
        return f"{self._public_path}/status/{job_id}"

    def of_batch(self, batch_id: str) -> str:
        """Return the address of a batch."""
        return f"{self._public_path}/batches/{batch_id}"

    def of_jobs(self, *, limit: int, cursor: str) -> str:
        """Return the address of a page of a client's list of jobs."""
        return f"{self._public_path}/jobs?limit={limit}&cursor={cursor}"

    def of_items(self, batch_id: str, start: int = 0) -> str:
        """Return the address of the page of a batch's items that begins with the index `start`."""
        page = f"{self.of_batch(batch_id)}/items"
        return f"{page}?cursor={start}" if start else page

    def of_archive(self, batch_id: str, revision: str, link_until: int | None = None) -> str:
        """Return the address of a batch's archive. With `link_until`, it is a signed link that is valid until then."""
        path = f"{self.of_batch(batch_id)}/archive.zip?revision={revision}"
        if self.signer is None or link_until is None:
            return path
        return f"{path}&{self.signer.query(batch_id, link_until)}"

    def of_track(self, job_id: str, extension: str, link_until: int | None = None) -> str:
        """Return the address of the job's track. With `link_until`, it is a signed link that is valid until then."""
        return self._linked(f"/download/{job_id}.{extension}", job_id, link_until)

    def of_sound(self, job_id: str, link_until: int | None = None) -> str:
        """Return the address of the sound of an MP3 job that has not ended; signed as `of_track`."""
        return self._linked(f"/listen/{job_id}.mp3", job_id, link_until)

    def _linked(self, path: str, job_id: str, link_until: int | None) -> str:
        path = f"{self._public_path}{path}"
        if self.signer is None or link_until is None:
            return path
        return f"{path}?{self.signer.query(job_id, link_until)}"
