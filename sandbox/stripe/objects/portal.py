"""What a person does in the billing portal, as far as the configuration lets them.

Source: docs pages "Configure the customer portal" and "Integrate the customer portal
with the API": a session is to be opened within five minutes, and ends an hour after
it was last used.
"""

from collections.abc import Mapping
from typing import Any

from sandbox.stripe.context import Context
from sandbox.stripe.objects import (
    addresses,
    cancellation,
    customers,
    subscription_end,
)
from sandbox.stripe.objects.subscription_cycle import UPDATED
from sandbox.stripe.objects.subscription_shape import ENDED
from sandbox.stripe.protocol.params import Shape
from sandbox.stripe.store import Record

TO_BE_OPENED = 300
IDLE = 3_600
CANCEL = "subscription_cancel"
DETAILS = Shape({name: customers.FIELDS[name] for name in ("email", "name", "phone")})


class SessionExpired(Exception):
    """The session is unknown, was not opened in time, or not used for an hour."""


class NotAllowed(Exception):
    """The portal's configuration does not offer this, or no longer."""


def visit(context: Context, token: str) -> Record:
    """Return the session of a token; it is in use from now. Raises SessionExpired."""
    session = addresses.find_session(context.store, token)
    if session is None or context.now > expires_at(session):
        raise SessionExpired("This session has expired.")
    with context.update(addresses.SESSION, session["id"]) as draft:
        draft["_used_at"] = context.now
    return context.get(addresses.SESSION, session["id"])


def expires_at(session: Record) -> int:
    """Return when the session ends if nobody uses it before."""
    used_at: int | None = session["_used_at"]
    return used_at + IDLE if used_at else int(session["created"]) + TO_BE_OPENED


def may(context: Context, session: Record, feature: str) -> bool:
    """Return whether the configuration, as it is now, has the feature enabled."""
    return bool(_feature(context, session, feature)["enabled"])


def may_update(context: Context, session: Record, field: str) -> bool:
    """Return whether the person may change this detail of the customer."""
    details = _feature(context, session, "customer_update")
    return bool(details["enabled"] and field in details["allowed_updates"])


def update_details(
    context: Context, session: Record, details: Mapping[str, str]
) -> Record:
    """Change details of the customer; "" unsets one. Raises NotAllowed, or a 400."""
    for field in details:
        if not may_update(context, session, field):
            raise NotAllowed(f"The portal does not change the {field}.")
    params = DETAILS.read(dict(details))
    return customers.update(context, params, session["customer"])


def reasons(context: Context, session: Record) -> list[str]:
    """Return the reasons a person may give for cancelling; empty when not asked."""
    asked = _feature(context, session, CANCEL)["cancellation_reason"]
    return list(asked["options"]) if asked["enabled"] else []


def cancels_at_once(context: Context, session: Record) -> bool:
    """Return whether a cancellation ends the subscription immediately."""
    return bool(_feature(context, session, CANCEL)["mode"] == "immediately")


def cancel(
    context: Context,
    session: Record,
    subscription: str,
    *,
    immediately: bool | None = None,
    feedback: str | None = None,
    comment: str | None = None,
) -> Record:
    """Cancel as the configuration's mode says; return the subscription.

    Cancelled at once, unused time is credited if the configuration prorates, on the
    next invoice: no final one is made (assumed). Raises NotAllowed.
    """
    settings = _cancellable(context, session, subscription)
    at_once = settings["mode"] == "immediately"
    if immediately not in (None, at_once):
        raise NotAllowed(f"The portal cancels {settings['mode']}.")
    if feedback is not None and feedback not in reasons(context, session):
        raise NotAllowed(f"{feedback} is not a reason that the portal offers.")
    details = {"comment": comment, "feedback": feedback}
    if at_once:
        prorate = settings["proration_behavior"] == "create_prorations"
        return subscription_end.cancel(
            context, subscription, prorate=prorate, details=details
        )
    return _at_period_end(context, subscription, True, details)


def renew(context: Context, session: Record, subscription: str) -> Record:
    """Take a scheduled cancellation back; return the subscription.

    Raises NotAllowed.
    """
    _cancellable(context, session, subscription)
    nothing = {"comment": None, "feedback": None}
    return _at_period_end(context, subscription, False, nothing)


def _at_period_end(
    context: Context, id: str, wanted: bool, details: dict[str, Any]
) -> Record:
    with context.update("subscription", id, UPDATED) as draft:
        cancellation.at_period_end(context, draft, wanted)
        draft["cancellation_details"].update(details)
    return context.get("subscription", id)


def _cancellable(context: Context, session: Record, id: str) -> dict[str, Any]:
    """Return how the portal cancels this subscription. Raises NotAllowed."""
    settings = _feature(context, session, CANCEL)
    if not settings["enabled"]:
        raise NotAllowed("The portal does not cancel subscriptions.")
    subscription = context.store.get("subscription", id)
    if subscription is None or subscription["customer"] != session["customer"]:
        raise NotAllowed("This is no subscription of the customer.")
    if subscription["status"] in ENDED:
        raise NotAllowed("This subscription has ended.")
    return settings


def _feature(context: Context, session: Record, feature: str) -> dict[str, Any]:
    configuration = context.get(addresses.CONFIGURATION, session["configuration"])
    features: dict[str, dict[str, Any]] = configuration["features"]
    return features[feature]
