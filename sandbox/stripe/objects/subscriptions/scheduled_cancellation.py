"""Scheduled cancellation of a subscription: at a period end or at a given time.

Source: SDK, Subscription.modify (`cancel_at`, `cancel_at_period_end`); docs page
"Cancel subscriptions".
"""

from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import invalid
from sandbox.stripe.api.params import Boolean, Either, Integer, Kind
from sandbox.stripe.api.routing import Params
from sandbox.stripe.clock.periods import period_at
from sandbox.stripe.store.records import Record

PERIOD_ENDS = ("max_period_end", "min_period_end")
# The start of the year 9990: later periods could end after 9999, which is no date.
MAX_CANCEL_AT = 253_086_768_000
FIELDS: dict[str, Kind] = {
    "cancel_at": Either(("", *PERIOD_ENDS), Integer(0)),
    "cancel_at_period_end": Boolean(),
}


def schedule(context: Context, draft: dict[str, Any], params: Params) -> None:
    """Apply `cancel_at` or `cancel_at_period_end` to a draft. Raises a 400."""
    if params.get("cancel_at") and params.get("cancel_at_period_end"):
        raise invalid(
            "You may only specify one of these parameters: cancel_at, "
            "cancel_at_period_end.",
            param="cancel_at",
        )
    if "cancel_at_period_end" in params:
        set_at_period_end(context, draft, params["cancel_at_period_end"])
    if "cancel_at" in params:
        at = _read_cancel_at(context, draft, params)
        _set_cancel_at(context, draft, at, at_period_end=False)


def set_at_period_end(context: Context, draft: dict[str, Any], enabled: bool) -> None:
    """Schedule the cancellation for the end of the period, or undo that."""
    # Sent again unchanged, it keeps `canceled_at`: the time of the first request.
    if enabled != draft["cancel_at_period_end"]:
        at = _last_period_end(draft) if enabled else None
        _set_cancel_at(context, draft, at, at_period_end=enabled)


def refresh_period_end(draft: dict[str, Any]) -> None:
    """Recompute `cancel_at` after the items changed (assumed)."""
    if draft["cancel_at_period_end"]:
        draft["cancel_at"] = _last_period_end(draft)


def _last_period_end(draft: Record) -> int:
    # Items with different intervals end at different times: the last one counts.
    return max(int(item["current_period_end"]) for item in draft["_items"])


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


def _read_cancel_at(context: Context, draft: Record, params: Params) -> int | None:
    value = params["cancel_at"]
    if value == "":
        return None
    ends = [int(item["current_period_end"]) for item in draft["_items"]]
    named = {"max_period_end": max(ends), "min_period_end": min(ends)}
    at = int(named.get(value) or value)
    if at <= context.now:
        raise invalid("`cancel_at` must be in the future.", param="cancel_at")
    if at > MAX_CANCEL_AT:
        raise invalid("`cancel_at` is too far in the future.", param="cancel_at")
    splits = any(_splits_period(context, draft, item, at) for item in draft["_items"])
    if splits and params.get("proration_behavior") != "none":
        raise invalid(
            "The sandbox does not prorate up to a `cancel_at` within a billing period; "
            "send `proration_behavior=none`.",
            param="cancel_at",
        )
    return at


def _splits_period(context: Context, draft: Record, item: Record, at: int) -> bool:
    """Return whether `at` falls inside a period of the item, not at its start."""
    recurring = context.get("price", item["price"])["recurring"]
    interval, count = recurring["interval"], recurring["interval_count"]
    # Counted from the anchor, since `at` can be several periods ahead.
    return period_at(draft["billing_cycle_anchor"], interval, count, at).start != at
