"""Clients that two generators make from `/openapi.json`, run against the service."""
