"""Webhooks: sends a signed message to an endpoint when a job or a batch has ended (Standard Webhooks 1.0.0).

    endpoints   WEBHOOKS_FILE: names, owners, addresses and secrets
    signature   the three headers of a message
    sender      the loop: takes deliveries from the outbox, sends them, and stores the results
      pace        how many requests an endpoint gets at once, and the pause after failures
      transport   one POST request, to a public address only

The job store decides which messages must be sent (`jobstore/outbox.py`): the step that ends a job also records its
deliveries. So no message is lost if this package fails, and it never delays a conversion.
"""
