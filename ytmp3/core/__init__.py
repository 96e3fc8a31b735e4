"""What jobs, conversions, links and limits are: values and rules without I/O, clock or randomness.

Time and chance are arguments. A module here imports only other modules of `core`, msgspec and pure parts of the
standard library (held by tests/core/test_imports.py).
"""
