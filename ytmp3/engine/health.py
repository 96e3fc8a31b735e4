"""The health state of this instance: written by the watcher, read by request handlers without a wait.

Live and ready are different. An instance is live while its event loop runs; any response proves that. It is ready if it
would accept a `POST /extract`; this module answers that question.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from ytmp3.converter import ToolCheck
from ytmp3.storage import Space


class Readiness(StrEnum):
    """The `status` of `/health`."""

    OK = "ok"
    DRAINING = "draining"
    UNREADY = "unready"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One entry of `checks` in `/health`."""

    ok: bool
    detail: str
    """For the operator: the result in one line."""


@dataclass(slots=True)
class Health:
    """The latest results of the checks. An instance is unready until every check has run once."""

    store: Check = field(default_factory=lambda: Check(ok=False, detail="not checked yet"))
    tools: list[ToolCheck] = field(default_factory=list)
    """One result per tool; empty before the first check."""
    space: Space | None = None
    """The disk of the data folder; None before the first check."""
    storage_error: str | None = None
    """Why the last check of the data folder failed; None if it succeeded."""
    is_draining: bool = False
    """Set once, at the beginning of the drain."""

    @property
    def is_storage_low(self) -> bool:
        """Whether new conversions must be refused, because the disk is too full or its last check failed."""
        return self.storage_error is not None or (self.space is not None and self.space.is_low)

    @property
    def tool_versions(self) -> dict[str, str]:
        """The version of each tool that told one; empty before the first check."""
        return {tool.name: tool.version for tool in self.tools if tool.version is not None}

    @property
    def checks(self) -> dict[str, Check]:
        """All checks by name."""
        checks = {"store": self.store, "storage": self._storage_check()}
        checks |= {tool.name: Check(ok=tool.ok, detail=tool.detail) for tool in self.tools}
        if not self.tools:
            checks["tools"] = Check(ok=False, detail="not checked yet")
        return checks

    @property
    def readiness(self) -> Readiness:
        """Whether the instance would accept a `POST /extract`."""
        if self.is_draining:
            return Readiness.DRAINING
        return Readiness.OK if all(check.ok for check in self.checks.values()) else Readiness.UNREADY

    def _storage_check(self) -> Check:
        if self.storage_error is not None:
            return Check(ok=False, detail=self.storage_error)
        if self.space is None:
            return Check(ok=False, detail="not checked yet")
        free, reserve = self.space.free_bytes, self.space.reserve_bytes
        return Check(ok=not self.space.is_low, detail=f"{free} bytes free, {reserve} kept in reserve")
