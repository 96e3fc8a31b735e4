"""The part of the table of environment variables (`variables`) that is about an object store for the tracks."""

import re
from typing import Final

from ytmp3.setting_files import certificates
from ytmp3.setting_forms import Variable, any_text, one_of, plain_url

_BUCKET: Final = re.compile(
    r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?P<prefix>(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*)/?", re.ASCII
)
_REGION: Final = re.compile(r"[a-zA-Z0-9-]+", re.ASCII)
LEAST_SECRET_CHARACTERS: Final = 32
"""Fewest characters of a secret that signs links, so that it cannot be guessed: `openssl rand -hex 32` prints 64."""


def bucket(text: str) -> tuple[str, str] | None:
    """Return the bucket and the prefix in a URL, without slashes at its ends; None for none."""
    if not text:
        return None
    match = _BUCKET.fullmatch(text)
    if match is None:
        raise ValueError
    return match["bucket"], match["prefix"].lstrip("/")


def region(text: str) -> str:
    """Return the name of a region."""
    if not _REGION.fullmatch(text):
        raise ValueError
    return text


def server_url(text: str) -> str:
    """Return an http or https URL without a path; empty for none."""
    url = plain_url(text)
    if "@" in url or url.count("/") > 2:
        raise ValueError
    return url


def secret(text: str) -> str:
    """Return a secret that is long enough; empty for none."""
    if text and len(text) < LEAST_SECRET_CHARACTERS:
        raise ValueError
    return text


STORAGE_VARIABLES: Final[tuple[Variable, ...]] = (
    Variable(
        name="STORAGE_URL",
        default="",
        form="s3://BUCKET or s3://BUCKET/PREFIX",
        meaning="Bucket of an object store (S3) for the finished tracks, so that instances need no shared volume. Each "
        "installation needs its own prefix. Empty: the folder `tracks` in `DATA_DIR`.",
        parse=bucket,
    ),
    Variable(
        name="S3_ENDPOINT",
        default="",
        form="an http:// or https:// URL without a path",
        meaning="Address of the object store, such as `https://s3.example.org`. Empty: Amazon S3.",
        parse=server_url,
    ),
    Variable(
        name="S3_PUBLIC_ENDPOINT",
        default="",
        form="an http:// or https:// URL without a path",
        meaning="With `S3_DOWNLOAD=redirect`: where clients reach the object store, if that is not `S3_ENDPOINT`.",
        parse=server_url,
    ),
    Variable(
        name="S3_REGION",
        default="us-east-1",
        form="letters, digits and dashes",
        meaning="Region of the bucket.",
        parse=region,
    ),
    Variable(
        name="S3_ACCESS_KEY_ID",
        default="",
        form="text",
        meaning="Access key of the object store. Empty: `AWS_ACCESS_KEY_ID`, or the role of the machine or pod.",
        parse=any_text,
    ),
    Variable(
        name="S3_SECRET_ACCESS_KEY",
        default="",
        form="text",
        meaning="Secret of that access key.",
        parse=any_text,
    ),
    Variable(
        name="S3_PATH_STYLE",
        default="auto",
        form="auto, on or off",
        meaning="Whether the bucket is in the path of URLs (`on`) or in their host (`off`). `auto`: in the path with "
        "`S3_ENDPOINT` or if the bucket's name has a dot.",
        parse=one_of("auto", "on", "off"),
    ),
    Variable(
        name="S3_CA_FILE",
        default="",
        form="a readable file with certificates in PEM form",
        meaning="A certificate authority of the object store to trust besides the system's.",
        parse=certificates,
    ),
    Variable(
        name="S3_DOWNLOAD",
        default="proxy",
        form="proxy or redirect",
        meaning="How clients get a track in a bucket. `proxy`: through this service. `redirect`: from the object "
        "store, by a presigned URL that is valid for 60 s.",
        parse=one_of("proxy", "redirect"),
    ),
    Variable(
        name="LINK_SECRET",
        default="",
        form=f"at least {LEAST_SECRET_CHARACTERS} characters",
        meaning="Signs download links and sessions of the page, where API keys are in use. Instances without a shared "
        "`DATA_DIR` need the same one. Empty: a random one, kept in `DATA_DIR`.",
        parse=secret,
    ),
)
"""Extends `variables.VARIABLES`."""
