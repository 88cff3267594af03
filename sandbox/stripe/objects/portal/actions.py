"""Customer actions in the billing portal, limited by its configuration.

Source: docs pages "Configure the customer portal" and "Integrate the customer portal
with the API": a session must be opened within five minutes, and expires an hour after
its last use.
"""

from collections.abc import Mapping
from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.params import Shape
from sandbox.stripe.objects import page_urls
from sandbox.stripe.objects.customers import customers
from sandbox.stripe.store.records import Record

OPEN_TIMEOUT = 300
IDLE_TIMEOUT = 3_600
DETAILS = Shape({name: customers.FIELDS[name] for name in ("email", "name", "phone")})


class SessionExpired(Exception):
    """The session is unknown, was not opened in time, or was idle for an hour."""


class NotAllowed(Exception):
    """The portal's configuration does not allow this action."""


def use_session(context: Context, token: str) -> Record:
    """Return the session with this token and extend it. Raises SessionExpired."""
    session = page_urls.find_session(context.store, token)
    if session is None or context.now > expires_at(session):
        raise SessionExpired("This session has expired.")
    return context.change(page_urls.SESSION, session["id"], _used_at=context.now)


def expires_at(session: Record) -> int:
    """Return when the session expires unless it is used before."""
    used_at: int | None = session["_used_at"]
    return used_at + IDLE_TIMEOUT if used_at else int(session["created"]) + OPEN_TIMEOUT


def is_enabled(context: Context, session: Record, feature: str) -> bool:
    """Return whether the feature is enabled in the session's configuration."""
    return bool(_feature(context, session, feature)["enabled"])


def is_updatable(context: Context, session: Record, field: str) -> bool:
    """Return whether the portal lets the customer change this detail."""
    details = _feature(context, session, "customer_update")
    return bool(details["enabled"] and field in details["allowed_updates"])


def update_details(
    context: Context, session: Record, details: Mapping[str, str]
) -> Record:
    """Update details of the customer; "" unsets one. Raises NotAllowed, or a 400."""
    for field in details:
        if not is_updatable(context, session, field):
            raise NotAllowed(f"The portal does not change the {field}.")
    params = DETAILS.read(dict(details))
    return customers.update(context, params, session["customer"])


def _feature(context: Context, session: Record, feature: str) -> dict[str, Any]:
    configuration = context.get(page_urls.CONFIGURATION, session["configuration"])
    features: dict[str, dict[str, Any]] = configuration["features"]
    return features[feature]
