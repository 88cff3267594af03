"""A stand-in for the wallets of tenants and of the platform."""
