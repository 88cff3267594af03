"""Configuration of relays at zooid: sent when it differs, proven by NIP-11."""
