"""URLs of the hosted pages, and lookup of an object by the token in its URL."""

from sandbox.stripe.api.context import Context
from sandbox.stripe.store.records import Record, Store

CONFIGURATION = "billing_portal.configuration"
SESSION = "billing_portal.session"
INVOICE_PATH = "/i/"
SESSION_PATH = "/p/session/"
LOGIN_PATH = "/p/login/"


def invoice_url(context: Context, token: str) -> str:
    """Return the URL of an invoice's hosted page."""
    return f"{context.public_url}{INVOICE_PATH}{token}"


def session_url(context: Context, token: str) -> str:
    """Return the URL of a billing portal session."""
    return f"{context.public_url}{SESSION_PATH}{token}"


def login_url(context: Context, token: str) -> str:
    """Return the URL of the login page, where a customer requests a link by e-mail."""
    return f"{context.public_url}{LOGIN_PATH}{token}"


def find_invoice(store: Store, token: str) -> Record | None:
    """Return the finalized invoice with this page token, or None."""
    return next(store.scan("invoice", index=("_token", token)), None)


def find_session(store: Store, token: str) -> Record | None:
    """Return the portal session with this token, even if expired, or None."""
    return next(store.scan(SESSION, index=("_token", token)), None)
