"""The dashboard: contents of the account, clock, faults."""
