"""How many times more than in `make test` is done: for what sets its own number (`make fuzz`, `make soak`: 20)."""

import os
from typing import Final

FUZZ_FACTOR: Final = int(os.environ.get("FUZZ_FACTOR", "1"))
