"""Requests: authentication, parameters, idempotency, errors, expansion, faults."""
