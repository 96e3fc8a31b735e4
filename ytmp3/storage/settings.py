"""The settings of the object store. `config` makes them from the environment, so nothing here imports an adapter."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

_AWS: Final = "https://s3.{region}.amazonaws.com"
"""The address of Amazon S3 in a region."""


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings:
    """A bucket, and how it is reached."""

    bucket: str
    prefix: str = ""
    """The names of all objects begin with it, and a slash; empty: the root of the bucket."""
    endpoint: str = ""
    """The URL of the object store; empty: Amazon S3."""
    public_endpoint: str = ""
    """Its URL for clients, if that is another one."""
    region: str = "us-east-1"
    access_key_id: str = ""
    """Empty: the keys, or the role, that the environment or the machine offers."""
    secret_access_key: str = field(default="", repr=False)
    path_style: bool = True
    """Whether the bucket is in the path of a URL, and not in its host."""
    ca_file: Path | None = None
    """A certificate authority to trust besides the system's."""
    redirects: bool = False
    """Whether clients download from the object store (S3_DOWNLOAD=redirect), and not through this service."""

    def host_url(self, *, is_public: bool) -> str:
        """Return the URL that the paths of requests are appended to."""
        url = (is_public and self.public_endpoint) or self.endpoint or _AWS.format(region=self.region)
        if self.path_style:
            return url
        parts = urlsplit(url)
        return parts._replace(netloc=f"{self.bucket}.{parts.netloc}").geturl()

    @property
    def download_origin(self) -> str:
        """The origin (RFC 6454) from which clients download; empty if that is this service."""
        if not self.redirects:
            return ""
        parts = urlsplit(self.host_url(is_public=True))
        return f"{parts.scheme}://{parts.netloc}"
