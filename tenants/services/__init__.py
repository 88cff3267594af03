"""State changes of tenants, and their communication over Nostr and e-mail."""
