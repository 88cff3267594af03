"""Confirmation step before a subscription is cancelled in the portal."""

from sandbox.common.html.elements import Child, Html, tag
from sandbox.stripe.api.context import Context
from sandbox.stripe.objects.portal import actions
from sandbox.stripe.pages.hosted.layout import panel, post
from sandbox.stripe.pages.hosted.portal_sections import (
    live_subscriptions,
    subscription_summary,
)
from sandbox.stripe.pages.text import day
from sandbox.stripe.store.records import Record

REASONS = {
    "customer_service": "Customer service was less than expected",
    "low_quality": "Quality was less than expected",
    "missing_features": "Some features are missing",
    "other": "Another reason",
    "switched_service": "I am switching to a different service",
    "too_complex": "Ease of use was less than expected",
    "too_expensive": "It is too expensive",
    "unused": "I no longer need it",
}


def find_cancellable(context: Context, session: Record, id: str) -> Record | None:
    """Return the subscription if the portal can cancel it, else None."""
    if not actions.is_enabled(context, session, actions.CANCEL):
        return None
    live = live_subscriptions(context, session)
    subscription = next((record for record in live if record["id"] == id), None)
    return subscription if subscription and not subscription["cancel_at"] else None


def cancel_step(
    context: Context,
    session: Record,
    subscription: Record,
    address: str,
    back: str = "",
) -> Html:
    """Return the form that asks for confirmation and for a reason."""
    return panel(
        tag("h2", "Cancel your subscription?"),
        subscription_summary(context, subscription),
        tag("p", _end_date(context, session, subscription)),
        post(
            f"{address}/cancel",
            tag("input", type="hidden", name="subscription", value=subscription["id"]),
            _reasons(context, session),
            tag("button", "Cancel subscription", class_="danger"),
            tag("a", "Go back", href=back, class_="button") if back else None,
        ),
        id="cancel",
    )


def _end_date(context: Context, session: Record, subscription: Record) -> Child:
    if actions.cancels_immediately(context, session):
        return "It ends immediately."
    ends = max(item["current_period_end"] for item in subscription["_items"])
    return ("You can use it until ", day(ends), ".")


def _reasons(context: Context, session: Record) -> Html | None:
    reasons = actions.cancellation_reasons(context, session)
    if not reasons:
        return None
    choices = [
        tag(
            "label",
            tag("input", type="radio", name="feedback", value=reason),
            REASONS[reason],
        )
        for reason in reasons
    ]
    comment = tag("textarea", name="comment", id="comment", rows=3, maxlength=5_000)
    return tag(
        "fieldset",
        tag("legend", "Why are you cancelling? (optional)"),
        choices,
        tag("label", "Anything you would like to add", for_="comment"),
        comment,
    )
