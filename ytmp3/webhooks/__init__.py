"""Webhooks: sends a signed message to an endpoint when a job or a batch has ended (Standard Webhooks 1.0.0).

    endpoints   WEBHOOKS_FILE: names, owners, addresses and secrets
    signature   the three headers of a message
    sender      the loop: takes deliveries from the outbox, sends them, and stores the results
      pace        how many requests an endpoint gets at once, and the pause after failures
      transport   one POST request, to a public address only

The store decides what is owed (`jobstore/outbox.py`): a delivery is recorded in the step that ends its job. So nothing
here is needed for it, and nothing here delays a conversion.
"""
