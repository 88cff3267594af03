"""Paths of the hosted pages, and lookup of an object by the token in its URL."""

from sandbox.stripe.store.records import Record, Store

CONFIGURATION = "billing_portal.configuration"
SESSION = "billing_portal.session"
# Paths of pages, to be followed by the token. On the login page a customer requests a
# link by e-mail.
INVOICE_PATH = "/i/"
SESSION_PATH = "/p/session/"
LOGIN_PATH = "/p/login/"


def find_invoice(store: Store, token: str) -> Record | None:
    """Return the finalized invoice with this page token, or None."""
    return next(store.scan("invoice", index=("_token", token)), None)


def find_session(store: Store, token: str) -> Record | None:
    """Return the portal session with this token, even if expired, or None."""
    return next(store.scan(SESSION, index=("_token", token)), None)
