"""Starts processes for the tests and `scripts/`: the service, Valkey, nginx, a cluster, slow clients.

Each module is named for what it starts. `scripts/` may import these modules; no test imports `scripts/`.
"""
