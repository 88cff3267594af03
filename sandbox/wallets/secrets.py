"""Every secret that the wallets tracked, so that a test can look for them in logs."""

tracked: set[str] = set()


def track(secret: str) -> str:
    """Note a secret, and return it."""
    tracked.add(secret)
    return secret
