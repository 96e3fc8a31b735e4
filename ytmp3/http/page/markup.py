"""Fills the templates of the page. Pure.

Every value is escaped here, so no text of a client or of YouTube can become markup. With scripts, the page
replaces the list of jobs; without scripts, the browser reloads the page until every job has ended.
"""

from collections.abc import Sequence
from html import escape
from string import Template
from typing import Final

from msgspec import Struct

from ytmp3.core.job import Status
from ytmp3.core.recipe import DEFAULT_QUALITY, Format, Quality, has_quality
from ytmp3.http.page.files import PageFiles
from ytmp3.http.wire import JobView

RELOAD_SECONDS: Final = 3
"""Without scripts: interval, in seconds, at which the page is reloaded while a conversion runs."""

_HIDDEN: Final = "hidden"
_STATUS_TEXTS: Final = {
    Status.PENDING: "Waiting",
    Status.PROCESSING: "Converting",
    Status.COMPLETED: "Ready",
    Status.FAILED: "The conversion failed.",
    Status.CANCELLED: "Cancelled",
}


class Shown(Struct, frozen=True, kw_only=True):
    """What the page shows to one visitor."""

    owner: str | None = None
    """The name of the API key with which the visitor is signed in."""
    must_sign_in: bool = False
    """Whether the service uses API keys and the visitor is not signed in."""
    links: str = ""
    """Text in the field for links."""
    quality: Quality = DEFAULT_QUALITY
    notice: str = ""
    """Why a request of the visitor was refused."""
    jobs: Sequence[JobView] = ()


class Markup:
    """Renders the page, its manifest, and the API reference.

    `base` is the public path of the service, empty at the root of a host.
    """

    def __init__(self, files: PageFiles, *, base: str) -> None:
        folder = f"{base}/page/{files.folder}"
        self._constants = {
            "base": escape(base),
            "icon": f"{folder}/icon.svg",
            "style": f"{folder}/style.css",
            "app": f"{folder}/app.js",
            "docs": f"{folder}/docs.js",
        }
        self._base = base
        self._index = Template(files.templates["index.html"])
        self.reference = Template(files.templates["docs.html"]).substitute(self._constants)
        self.manifest = Template(files.templates["manifest.webmanifest"]).substitute(self._constants)

    def page(self, shown: Shown) -> str:
        """Return the HTML of the page."""
        is_open = any(job.status in {Status.PENDING, Status.PROCESSING} for job in shown.jobs)
        return self._index.substitute(
            self._constants,
            access="closed" if shown.must_sign_in else "open",
            owner=escape(shown.owner or ""),
            links=escape(shown.links),
            notice=escape(shown.notice),
            qualities="".join(_quality_option(quality, shown.quality) for quality in Quality),
            formats="".join(map(_format_option, Format)),
            jobs="".join(_job_item(job, self._base) for job in shown.jobs),
            refresh=f'<noscript><meta http-equiv="refresh" content="{RELOAD_SECONDS}"></noscript>' if is_open else "",
            sign_in_hidden="" if shown.must_sign_in else _HIDDEN,
            sign_out_hidden=_HIDDEN if shown.owner is None else "",
            convert_hidden=_HIDDEN if shown.must_sign_in else "",
            notice_hidden="" if shown.notice else _HIDDEN,
            jobs_hidden="" if shown.jobs else _HIDDEN,
        )


def _quality_option(quality: Quality, chosen: Quality) -> str:
    return f"<option{' selected' if quality is chosen else ''}>{quality}</option>"


def _format_option(format_: Format) -> str:
    has = "true" if has_quality(format_) else "false"
    return f'<option value="{format_}" data-has-quality="{has}">{format_.upper()}</option>'


def _job_item(job: JobView, base: str) -> str:
    """Return a job as an item of the list, for a browser without scripts."""
    title = job.metadata.title if job.metadata is not None else job.url
    if job.status is Status.PROCESSING:
        state = f"Converting, {job.progress:.0%}"
    else:
        state = job.error.message if job.error is not None else _STATUS_TEXTS[job.status]
    download = (
        f'<div class="actions"><a class="button primary" href="{escape(job.download_url)}">Download</a></div>'
        if job.download_url is not None
        else ""
    )
    picture = f'<img alt="" loading="lazy" src="{escape(base)}/cover/{job.job_id}.jpg">' if download else ""
    return (
        f'<li class="job {job.status}"><div class="cover">{picture}</div><div class="words"><h3>{escape(title)}</h3>'
        f'<p class="state">{escape(state)}</p></div>{download}</li>'
    )
