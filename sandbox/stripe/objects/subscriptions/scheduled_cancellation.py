"""Scheduled cancellation of a subscription: at a period end or at a given time.

Source: SDK, Subscription.modify (`cancel_at`, `cancel_at_period_end`); docs page
"Cancel subscriptions".
"""

from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import invalid
from sandbox.stripe.api.params import Boolean, Integer, Kind
from sandbox.stripe.api.routing import Params
from sandbox.stripe.store.records import Record

# The start of the year 9990: later periods could end after 9999, which is no date.
MAX_CANCEL_AT = 253_086_768_000
FIELDS: dict[str, Kind] = {
    "cancel_at": Integer(0, MAX_CANCEL_AT, unset=True),
    "cancel_at_period_end": Boolean(),
}


def schedule(context: Context, draft: dict[str, Any], params: Params) -> None:
    """Apply `cancel_at` or `cancel_at_period_end` to a draft. Raises a 400."""
    at = params.get("cancel_at")
    if at and params.get("cancel_at_period_end"):
        raise invalid(
            "You may only specify one of these parameters: cancel_at, "
            "cancel_at_period_end.",
            param="cancel_at",
        )
    # Items with different intervals end at different times: the last one counts.
    end = max(item["current_period_end"] for item in draft["_items"])
    at_period_end = params.get("cancel_at_period_end", draft["cancel_at_period_end"])
    # Sent again unchanged, it keeps `canceled_at`: the time of the first request.
    if at_period_end != draft["cancel_at_period_end"]:
        if at_period_end and draft["status"] == "paused":
            raise invalid(
                "A paused subscription cannot be canceled at the end of its period.",
                param="cancel_at_period_end",
            )
        scheduled = end if at_period_end else None
        _set_cancel_at(context, draft, scheduled, at_period_end=at_period_end)
    elif at_period_end and draft["status"] != "paused":
        # The items may have changed (assumed).
        draft["cancel_at"] = end
    if "cancel_at" in params:
        if at is not None:
            _check_cancel_at(context, draft, at, params)
        _set_cancel_at(context, draft, at, at_period_end=False)


def _set_cancel_at(
    context: Context, draft: dict[str, Any], at: int | None, *, at_period_end: bool
) -> None:
    draft.update(
        cancel_at=at,
        cancel_at_period_end=at_period_end,
        canceled_at=None if at is None else context.now,
    )
    reason = None if at is None else "cancellation_requested"
    draft["cancellation_details"]["reason"] = reason


def _check_cancel_at(context: Context, draft: Record, at: int, params: Params) -> None:
    if at <= context.now:
        raise invalid("`cancel_at` must be in the future.", param="cancel_at")
    splits_period = any(item["current_period_end"] != at for item in draft["_items"])
    if splits_period and params.get("proration_behavior") != "none":
        raise invalid(
            "The sandbox does not prorate up to a `cancel_at` other than the period's "
            "end; send `proration_behavior=none`.",
            param="cancel_at",
        )
