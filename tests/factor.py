"""How many times more than in `make test` is generated: for what sets its own number of examples (`make fuzz`: 20)."""

import os
from typing import Final

FUZZ_FACTOR: Final = int(os.environ.get("FUZZ_FACTOR", "1"))
