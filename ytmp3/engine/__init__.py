"""What happens over time: admission of new work, the queue, the workers, leases, retries and cleaning up.

This package knows asyncio and the Protocols of the job store, the storage and the converter. It knows neither HTTP nor
SQL nor Redis, and it counts nothing: what happens is emitted as an event (`events`), and listeners count and log it.
`assembly` builds the parts and hands each one what it uses.
"""
