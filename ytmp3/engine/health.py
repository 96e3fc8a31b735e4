"""The health state of this instance: written by the watcher, read by request handlers without a wait.

Live and ready are different. An instance is live while its event loop runs; any response proves that. It is ready if it
would accept a `POST /extract`. A degraded instance is ready: it accepts jobs and shows their status, but some or all
conversions do not succeed, for a cause that most likely affects the other instances too. If it were unready, a load
balancer would remove all instances, and clients could not even read the status of their jobs.

So a fault makes an instance unready only if another instance may do better, or if no job can be stored. A fault that
all instances share makes them degraded.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from ytmp3.converter import ToolCheck
from ytmp3.core.errors import Fault
from ytmp3.storage import Space

REASONS: Final[dict[Fault, str]] = {
    Fault.ADDRESS: "YouTube refuses this server's address",
    Fault.NETWORK: "YouTube cannot be reached from here: no name lookup, no route, or a dead proxy",
    Fault.SETTINGS: "a network setting is wrong: the proxy's login or scheme, a certificate, or the cookies",
    Fault.RELEASE: "the installed yt-dlp does not understand YouTube's answers: is there a newer one?",
    Fault.YOUTUBE: "most conversions fail at YouTube: is there a newer yt-dlp, or has YouTube an incident?",
}
"""The text for the operator about each cause of the breaker, and of closed identities."""


class Readiness(StrEnum):
    """The `status` of `/health`."""

    OK = "ok"
    DEGRADED = "degraded"
    DRAINING = "draining"
    UNREADY = "unready"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One entry of `checks` in `/health`."""

    ok: bool
    detail: str
    """The result in one line, for the operator."""
    at: float | None = None
    """When this was found, by the engine's clock; None if it follows from conversions and not from a check."""


@dataclass(slots=True)
class Health:
    """The latest results of the checks. An instance is unready until every check has run once."""

    store: Check = field(default_factory=lambda: Check(ok=False, detail="not checked yet"))
    records: Check = field(default_factory=lambda: Check(ok=True, detail="no fault known"))
    """Whether all records of the store can be used; its detail says what to do. It does not make the instance unready:
    all instances have the same records, and most jobs are not affected."""
    tools: list[ToolCheck] = field(default_factory=list)
    """One result per tool; empty before the first check."""
    tools_at: float | None = None
    """When the tools were checked, by the engine's clock."""
    space: Space | None = None
    """The disk of the data folder; None before the first check."""
    space_at: float | None = None
    """When the last check of the data folder ended, by the engine's clock."""
    storage_error: str | None = None
    """Why the last check of the data folder failed, or that it does not end; None if it succeeded."""
    storage_faults: int = 0
    """How often the data folder has been found failing. Attempts compare it, to see whether it failed under them."""
    shelf_error: str | None = None
    """The error if other instances on the same store use another folder of tracks; None otherwise, or if unknown."""
    other_installation: str | None = None
    """The error if another installation uses the same folder or bucket of tracks; None otherwise, or if unknown.

    It does not make the instance unready: both installations work, but neither removes files without a record.
    """
    upstream_cause: Callable[[], Fault | None] = lambda: None
    """Returns why conversions do not succeed at YouTube; None if no reason is known. It is `Upstream.cause`, which
    knows the circuit breaker and the identities. It does not make the instance unready."""
    is_draining: bool = False
    """Set once, at the beginning of the drain."""

    @property
    def upstream(self) -> Check:
        """Whether conversions succeed at YouTube."""
        cause = self.upstream_cause()
        return Check(ok=cause is None, detail="no fault known" if cause is None else REASONS[cause])

    @property
    def is_storage_low(self) -> bool:
        """Whether new conversions must be refused, because the disk is too full."""
        return self.space is not None and self.space.is_low

    @property
    def fault(self) -> str | None:
        """Why conversions would fail in this instance, whatever their video is; None if no reason is known.

        It then starts no conversion, takes no new one, and gives its work to other instances. A full disk is no such
        reason: conversions that have begun may still end well.
        """
        if self.storage_error is not None or self.shelf_error is not None:
            return self.storage_error or self.shelf_error
        return next((f"{tool.name}: {tool.detail}" for tool in self.tools if not tool.ok), None)

    @property
    def may_take_work(self) -> bool:
        """Whether this instance may take conversions that are due, besides those that it has."""
        return not self.is_draining and not self.is_storage_low and self.fault is None

    @property
    def tool_versions(self) -> dict[str, str]:
        """The known versions of tools, by name; empty before the first check."""
        return {tool.name: tool.version for tool in self.tools if tool.version is not None}

    @property
    def checks(self) -> dict[str, Check]:
        """All checks by name."""
        checks = self._needed_checks() | {"records": self.records, "upstream": self.upstream}
        if self.other_installation is not None:
            checks["installation"] = Check(ok=False, detail=self.other_installation)
        return checks

    def _needed_checks(self) -> dict[str, Check]:
        """Return the checks without which no job can be done. If one of them fails, the instance is not ready."""
        checks = {"store": self.store, "storage": self._storage_check()}
        checks |= {tool.name: Check(ok=tool.ok, detail=tool.detail, at=self.tools_at) for tool in self.tools}
        if not self.tools:
            checks["tools"] = Check(ok=False, detail="not checked yet")
        return checks

    @property
    def readiness(self) -> Readiness:
        """Whether a POST would be accepted, and whether its conversion would most likely succeed."""
        if self.is_draining:
            return Readiness.DRAINING
        if not all(check.ok for check in self._needed_checks().values()):
            return Readiness.UNREADY
        is_whole = self.upstream.ok and self.records.ok and self.other_installation is None
        return Readiness.OK if is_whole else Readiness.DEGRADED

    @property
    def is_ready(self) -> bool:
        """Whether a POST would be accepted."""
        return self.readiness in {Readiness.OK, Readiness.DEGRADED}

    def _storage_check(self) -> Check:
        """Return the check of the data folder or bucket: usable, and with free space above the reserve."""
        error = self.storage_error or self.shelf_error
        if error is not None:
            return Check(ok=False, detail=error, at=self.space_at)
        if self.space is None:
            return Check(ok=False, detail="not checked yet")
        free, reserve = self.space.free_bytes, self.space.reserve_bytes
        detail = f"{free} bytes free, {reserve} kept in reserve"
        return Check(ok=not self.space.is_low, detail=detail, at=self.space_at)
