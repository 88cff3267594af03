"""When a subscription is to end: now, at the end of a period, at a moment.

Source: SDK, Subscription.modify (`cancel_at`, `cancel_at_period_end`); docs page
"Cancel subscriptions".
"""

from typing import Any

from sandbox.stripe.context import Context
from sandbox.stripe.cycle import period_at
from sandbox.stripe.protocol.errors import invalid
from sandbox.stripe.protocol.params import Boolean, Either, Integer, Kind
from sandbox.stripe.resource import Params
from sandbox.stripe.store import Record

PERIOD_ENDS = ("max_period_end", "min_period_end")
FIELDS: dict[str, Kind] = {
    "cancel_at": Either(("", *PERIOD_ENDS), Integer(0)),
    "cancel_at_period_end": Boolean(),
}


def schedule(context: Context, draft: dict[str, Any], params: Params) -> None:
    """Schedule the end of a subscription that is being edited. Raises a 400."""
    if params.get("cancel_at") and params.get("cancel_at_period_end"):
        raise invalid(
            "You may only specify one of these parameters: cancel_at, "
            "cancel_at_period_end.",
            param="cancel_at",
        )
    if "cancel_at_period_end" in params:
        at_period_end(context, draft, params["cancel_at_period_end"])
    if "cancel_at" in params:
        at = _moment(context, draft, params)
        _set(context, draft, at, at_end=False)


def at_period_end(context: Context, draft: dict[str, Any], wanted: bool) -> None:
    """Schedule the end of a subscription for that of its period, or take it back."""
    if wanted != draft["cancel_at_period_end"]:
        _set(context, draft, _last_end(draft) if wanted else None, at_end=wanted)


def follow_items(draft: dict[str, Any]) -> None:
    """Let an end with the period be that of the items as they now are (assumed)."""
    if draft["cancel_at_period_end"]:
        draft["cancel_at"] = _last_end(draft)


def _last_end(draft: Record) -> int:
    return max(int(item["current_period_end"]) for item in draft["_items"])


def _set(
    context: Context, draft: dict[str, Any], at: int | None, *, at_end: bool
) -> None:
    draft.update(
        cancel_at=at,
        cancel_at_period_end=at_end,
        canceled_at=None if at is None else context.now,
    )
    reason = None if at is None else "cancellation_requested"
    draft["cancellation_details"]["reason"] = reason


def _moment(context: Context, draft: Record, params: Params) -> int | None:
    given = params["cancel_at"]
    if given == "":
        return None
    ends = [int(item["current_period_end"]) for item in draft["_items"]]
    words = {"max_period_end": max(ends), "min_period_end": min(ends)}
    at = int(words.get(given) or given)
    if at <= context.now:
        raise invalid("`cancel_at` must be in the future.", param="cancel_at")
    cuts = any(_cuts(context, draft, item, at) for item in draft["_items"])
    if cuts and params.get("proration_behavior") != "none":
        raise invalid(
            "The sandbox does not prorate up to a `cancel_at` within a billing period; "
            "send `proration_behavior=none`.",
            param="cancel_at",
        )
    return at


def _cuts(context: Context, draft: Record, item: Record, at: int) -> bool:
    """Return whether the moment is within a period of the item, not at its start."""
    recurring = context.get("price", item["price"])["recurring"]
    interval, count = recurring["interval"], recurring["interval_count"]
    return period_at(draft["billing_cycle_anchor"], interval, count, at).start != at
