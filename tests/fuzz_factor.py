"""How much longer than in `make test` the tests with random input run: `make fuzz` and `make soak` set 20."""

import os
from typing import Final

FUZZ_FACTOR: Final = int(os.environ.get("FUZZ_FACTOR", "1"))
