"""The engine: admission of new work, the queue, the workers, leases, retries and cleaning up.

This package uses asyncio and the Protocols of the job store, the storage and the converter. It contains no HTTP, SQL or
Redis. It emits events (`events`); listeners count and log them. `assembly` builds the parts and connects them.
"""
