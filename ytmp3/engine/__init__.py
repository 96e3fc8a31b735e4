"""What happens over time: admission of new work, the queue, the workers, leases, retries and cleaning up.

This package knows asyncio and the Protocols of the job store, the storage and the converter. It knows neither HTTP nor
SQL nor Redis, and it counts nothing: it emits events (`events`), and listeners count and log them.
`assembly` builds the parts and hands each one what it uses.
"""
