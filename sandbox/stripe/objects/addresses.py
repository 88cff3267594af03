"""The pages a person opens: the address of each, and what its token stands for."""

from sandbox.stripe.context import Context
from sandbox.stripe.store import Record, Store

CONFIGURATION = "billing_portal.configuration"
SESSION = "billing_portal.session"


def invoice_url(context: Context, token: str) -> str:
    """Return the address of an invoice's page."""
    return f"{context.public_url}/i/{token}"


def session_url(context: Context, token: str) -> str:
    """Return the address of a session of the billing portal."""
    return f"{context.public_url}/p/session/{token}"


def find_invoice(store: Store, token: str) -> Record | None:
    """Return the finalized invoice whose page has this token, or None."""
    return next(store.scan("invoice", index=("_token", token)), None)


def find_session(store: Store, token: str) -> Record | None:
    """Return the portal session with this token, expired or not, or None."""
    return next(store.scan(SESSION, index=("_token", token)), None)
