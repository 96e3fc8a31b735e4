"""Many instances of the service with simulated conversions, to find the part that is full first.

`python -m scripts.fleet --help` says how to run it.
"""
