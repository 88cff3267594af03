"""All secrets that the stand-ins create, for tests that search logs for them."""

tracked: set[str] = set()


def track(secret: str) -> str:
    """Record a secret, and return it."""
    tracked.add(secret)
    return secret
