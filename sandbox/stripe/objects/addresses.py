"""The pages a person opens: the address of each, and what its token stands for."""

from sandbox.stripe.context import Context
from sandbox.stripe.store import Record, Store

CONFIGURATION = "billing_portal.configuration"
SESSION = "billing_portal.session"
INVOICE_PATH = "/i/"
SESSION_PATH = "/p/session/"
LOGIN_PATH = "/p/login/"


def invoice_url(context: Context, token: str) -> str:
    """Return the address of an invoice's page."""
    return f"{context.public_url}{INVOICE_PATH}{token}"


def session_url(context: Context, token: str) -> str:
    """Return the address of a session of the billing portal."""
    return f"{context.public_url}{SESSION_PATH}{token}"


def login_url(context: Context, token: str) -> str:
    """Return the address where a person would ask for a session by e-mail."""
    return f"{context.public_url}{LOGIN_PATH}{token}"


def find_invoice(store: Store, token: str) -> Record | None:
    """Return the finalized invoice whose page has this token, or None."""
    return next(store.scan("invoice", index=("_token", token)), None)


def find_session(store: Store, token: str) -> Record | None:
    """Return the portal session with this token, expired or not, or None."""
    return next(store.scan(SESSION, index=("_token", token)), None)
