"""Every secret that the wallets made, so that a test can look for them in logs."""

made: set[str] = set()


def remember(secret: str) -> str:
    """Note a secret, and return it."""
    made.add(secret)
    return secret
