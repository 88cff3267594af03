"""Holds: paused collection, paused subscriptions, drafts held back or refused."""

from datetime import timedelta
from typing import Any

from billing.tests.support.simulation.actions import Payer
from billing.tests.support.simulation.staff.objects import (
    StaffAction,
    invoices,
    live_subscription,
    pick,
    read,
    request,
)
from billing.tests.support.simulation.system import System

BEHAVIOURS = ("keep_as_draft", "mark_uncollectible", "void")
DAY = 86_400
REFUSAL = "sandbox_finalization"


def pause_collection(system: System, payer: Payer, variant: int) -> None:
    """Pause the collection of new invoices, or (variant 3) end the pause."""
    pause: Any = {"behavior": BEHAVIOURS[variant]} if variant < 3 else ""
    change: Any = {"pause_collection": pause}
    if subscription := live_subscription(system, payer):
        request(system.api.v1.subscriptions.update, subscription, change)
        system.holds.set_pause(read(system, "subscription", subscription))


def resume_collection(system: System, payer: Payer, variant: int) -> None:
    pause_collection(system, payer, 3)


def pause_subscription(system: System, payer: Payer, variant: int) -> None:
    """Pause the whole subscription, which only automatic collection allows."""
    automatic: Any = {"collection_method": "charge_automatically"}
    params: Any = {"bill_for": {"unused_time_from": {"type": "now"}}}
    params["invoicing_behavior"] = "pending_invoice_item"
    if subscription := live_subscription(system, payer):
        api = system.api.v1.subscriptions
        request(api.update, subscription, automatic)
        request(api.pause, subscription, params)
        system.holds.set_status(read(system, "subscription", subscription))


def resume_subscription(system: System, payer: Payer, variant: int) -> None:
    params: Any = {"payment_behavior": "resume_on_payment_attempt"}
    params["billing_cycle_anchor"] = {"type": ("now", "unchanged")[variant % 2]}
    if subscription := live_subscription(system, payer):
        request(system.api.v1.subscriptions.resume, subscription, params)
        system.holds.set_status(read(system, "subscription", subscription))


def hold_draft(system: System, payer: Payer, variant: int) -> None:
    """Hold a draft back, for good or (odd variants) for ten days."""
    change: Any = {"auto_advance": False}
    if variant % 2:
        later = int(system.now.timestamp()) + 10 * DAY
        change = {"automatically_finalizes_at": later}
    _wait_for_draft(system, payer)
    for draft in pick(invoices(system, payer, "draft"), variant):
        request(system.api.v1.invoices.update, draft["id"], change)
        system.holds.set_draft(read(system, "invoice", draft["id"]))


def release_draft(system: System, payer: Payer, variant: int) -> None:
    for draft in list(invoices(system, payer, "draft")):
        _release(system, str(draft["id"]))


def _release(system: System, draft: str) -> None:
    system.holds.release_draft(draft)
    request(system.api.v1.invoices.update, draft, {"auto_advance": True})


def _wait_for_draft(system: System, payer: Payer) -> None:
    """Let time pass until the next renewal, whose invoice is a draft for an hour."""
    subscription = live_subscription(system, payer)
    if subscription and not any(invoices(system, payer, "draft")):
        items = read(system, "subscription", subscription)["_items"]
        renewal = min(item["current_period_end"] for item in items)
        system.advance(timedelta(seconds=renewal + 60 - system.now.timestamp()))


def refuse_finalization(system: System, payer: Payer, variant: int) -> None:
    """Let Stripe refuse to finalize the customer's drafts."""
    _set_refusal(system, payer, "customer_tax_location_invalid")


def allow_finalization(system: System, payer: Payer, variant: int) -> None:
    _set_refusal(system, payer, "")


def _set_refusal(system: System, payer: Payer, code: str) -> None:
    customer = payer.tenant.stripe_customer_id
    change: Any = {"metadata": {REFUSAL: code}}
    if customer:
        request(system.api.v1.customers.update, customer, change)


ACTIONS: tuple[StaffAction, ...] = (
    pause_collection,
    resume_collection,
    pause_subscription,
    resume_subscription,
    hold_draft,
    release_draft,
    refuse_finalization,
    allow_finalization,
)
