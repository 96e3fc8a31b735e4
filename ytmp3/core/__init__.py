"""Values and rules of the service: jobs, conversions, links, limits. No I/O, no clock, no randomness.

Time and random numbers are arguments. A module here imports only other modules of `core`, msgspec and pure parts of the
standard library; tests/core/test_imports.py checks this.
"""
