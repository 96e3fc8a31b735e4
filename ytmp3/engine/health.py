"""What this instance knows of its own condition: one health, written by a watcher, read by handlers without a wait.

Ready and live differ: live means that the event loop turns; ready means that a POST would be taken.
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
    """One line of `/health`."""

    ok: bool
    detail: str


@dataclass(slots=True)
class Health:
    """The latest results. Everything starts unknown, so an instance is unready until it has looked."""

    store: Check = field(default_factory=lambda: Check(ok=False, detail="not asked yet"))
    tools: list[ToolCheck] = field(default_factory=list)
    space: Space | None = None
    storage_error: str | None = None
    is_draining: bool = False

    @property
    def is_storage_low(self) -> bool:
        return self.storage_error is not None or (self.space is not None and self.space.is_low)

    @property
    def checks(self) -> dict[str, Check]:
        """All checks by name."""
        checks = {"store": self.store, "storage": self._storage_check()}
        checks |= {tool.name: Check(ok=tool.ok, detail=tool.detail) for tool in self.tools}
        if not self.tools:
            checks["tools"] = Check(ok=False, detail="not asked yet")
        return checks

    @property
    def readiness(self) -> Readiness:
        if self.is_draining:
            return Readiness.DRAINING
        return Readiness.OK if all(check.ok for check in self.checks.values()) else Readiness.UNREADY

    def _storage_check(self) -> Check:
        if self.storage_error is not None:
            return Check(ok=False, detail=self.storage_error)
        if self.space is None:
            return Check(ok=False, detail="not asked yet")
        free, reserve = self.space.free_bytes, self.space.reserve_bytes
        return Check(ok=not self.space.is_low, detail=f"{free} bytes free, {reserve} kept in reserve")
