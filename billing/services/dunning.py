"""Placeholder."""


def review_tenant(*, tenant_id: str) -> str:
    return ""
