"""How slow the slow kinds are."""

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    slow_bytes_per_second: int = 100_000
    delay_seconds: float = 3.0
