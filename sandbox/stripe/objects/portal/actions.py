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
from sandbox.stripe.objects.schemas.subscription import ENDED
from sandbox.stripe.objects.subscriptions import (
    cancel as subscription_end,
)
from sandbox.stripe.objects.subscriptions import (
    scheduled_cancellation,
)
from sandbox.stripe.objects.subscriptions.renewal import UPDATED
from sandbox.stripe.store.records import Record

OPEN_TIMEOUT = 300
IDLE_TIMEOUT = 3_600
CANCEL = "subscription_cancel"
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
    with context.update(page_urls.SESSION, session["id"]) as draft:
        draft["_used_at"] = context.now
    return context.get(page_urls.SESSION, session["id"])


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


def cancellation_reasons(context: Context, session: Record) -> list[str]:
    """Return the cancellation reasons to choose from; empty if disabled."""
    reason = _feature(context, session, CANCEL)["cancellation_reason"]
    return list(reason["options"]) if reason["enabled"] else []


def cancels_immediately(context: Context, session: Record) -> bool:
    """Return whether the portal's cancellation mode is `immediately`."""
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
    """Cancel in the configured mode and return the subscription.

    In the mode `immediately`, unused time is credited on the next invoice if the
    configuration prorates; there is no final invoice (assumed). Raises NotAllowed.
    """
    settings = _cancel_settings(context, session, subscription)
    is_immediate = settings["mode"] == "immediately"
    if immediately not in (None, is_immediate):
        raise NotAllowed(f"The portal's cancellation mode is {settings['mode']}.")
    if feedback is not None and feedback not in cancellation_reasons(context, session):
        raise NotAllowed(f"{feedback} is not a reason that the portal offers.")
    details = {"comment": comment, "feedback": feedback}
    if is_immediate:
        prorate = settings["proration_behavior"] == "create_prorations"
        return subscription_end.cancel(
            context, subscription, prorate=prorate, details=details
        )
    return _set_at_period_end(context, subscription, True, details)


def undo_cancellation(context: Context, session: Record, subscription: str) -> Record:
    """Undo a scheduled cancellation and return the subscription. Raises NotAllowed."""
    _cancel_settings(context, session, subscription)
    details = {"comment": None, "feedback": None}
    return _set_at_period_end(context, subscription, False, details)


def _set_at_period_end(
    context: Context, id: str, enabled: bool, details: dict[str, Any]
) -> Record:
    with context.update("subscription", id, UPDATED) as draft:
        scheduled_cancellation.set_at_period_end(context, draft, enabled)
        draft["cancellation_details"].update(details)
    return context.get("subscription", id)


def _cancel_settings(context: Context, session: Record, id: str) -> dict[str, Any]:
    """Return the cancellation settings for this subscription. Raises NotAllowed."""
    settings = _feature(context, session, CANCEL)
    if not settings["enabled"]:
        raise NotAllowed("The portal does not cancel subscriptions.")
    subscription = context.store.get("subscription", id)
    if subscription is None or subscription["customer"] != session["customer"]:
        raise NotAllowed("The customer has no such subscription.")
    if subscription["status"] in ENDED:
        raise NotAllowed("This subscription has ended.")
    return settings


def _feature(context: Context, session: Record, feature: str) -> dict[str, Any]:
    configuration = context.get(page_urls.CONFIGURATION, session["configuration"])
    features: dict[str, dict[str, Any]] = configuration["features"]
    return features[feature]
