"""Tenants: the Nostr keys that pay for relays, and notices to their owners."""
