"""Acts of staff around a renewal, reported by events: in any order, some twice."""

import random
from datetime import timedelta
from typing import Any

import pytest
import stripe

from billing.clients.stripe.client import Stripe
from billing.models import InvoiceCollection, SubscriptionSync
from billing.services.invoices.holds import hold_of
from billing.services.subscriptions.diff import is_in_sync
from billing.services.subscriptions.ended import is_inactive
from billing.services.subscriptions.pauses import are_recorded
from billing.services.subscriptions.terms import read_terms, stored_terms
from billing.tests.factories import StripeEventFactory
from billing.tests.support.collection import collect
from billing.tests.support.renewals import (
    new_events,
    process,
    run_tasks,
    skip_events,
    until_draft,
)
from caravel.tests.support import search

pytestmark = pytest.mark.django_db

ON_INVOICE: dict[str, tuple[str, Any]] = {
    "hold": ("update", {"auto_advance": False}),
    "release": ("update", {"auto_advance": True}),
    "mark": ("update", {"metadata": {"lightning_payment_hash": "ab" * 32}}),
    "unmark": ("update", {"metadata": {"lightning_payment_hash": ""}}),
    "finalize": ("finalize_invoice", {}),
    "pay": ("pay", {"paid_out_of_band": True}),
    "void": ("void_invoice", {}),
    "write off": ("mark_uncollectible", {}),
}
ON_SUBSCRIPTION: dict[str, Any] = {
    "void new ones": {"pause_collection": {"behavior": "void"}},
    "keep new drafts": {"pause_collection": {"behavior": "keep_as_draft"}},
    "write new ones off": {"pause_collection": {"behavior": "mark_uncollectible"}},
    "resume": {"pause_collection": ""},
    "coupon": {"discounts": [{"coupon": "once"}]},
    "charge": {"collection_method": "charge_automatically"},
    "forget the tenant": {"metadata": {"tenant_pubkey": ""}},
    "cancel at the end": {"cancel_at_period_end": True},
    "quantity": {"items": [{"quantity": 3}]},
    "metadata of an item": {"items": [{"metadata": {"a": "b"}}]},
}
PASSES = [timedelta(minutes=20), timedelta(hours=1), timedelta(days=29)]


class History:
    """Acts at Stripe, and the events that have not arrived yet."""

    def __init__(self, sandbox, clock, subscription, seed):
        self._sandbox, self._clock = sandbox, clock
        self._api = sandbox.client().v1
        self._subscription, self._random = subscription, random.Random(seed)
        self._under_way = []

    def begin(self):
        self._api.coupons.create({"id": "once", "percent_off": 10, "duration": "once"})
        if self._random.random() < 0.3:
            self._change_subscription()
        self._pass(until_draft(self._sandbox))

    def hold_draft(self):
        """Hold the renewal's draft after it was recorded."""
        self._deliver(len(self._receive()))
        self._change_invoice("hold")

    def act(self):
        kind = self._random.choice([self._pass, self._change_invoice, self._deliver])
        try:
            self._random.choice([kind, self._change_subscription])()
        except stripe.InvalidRequestError:
            # Not possible in this state.
            return

    def end(self):
        while self._under_way or self._receive():
            self._deliver(len(self._under_way))
        run_tasks()

    def _change_invoice(self, name=None):
        newest = {"subscription": self._subscription, "limit": 1}
        [invoice] = self._api.invoices.list(newest).data
        method, params = ON_INVOICE[name or self._random.choice(list(ON_INVOICE))]
        getattr(self._api.invoices, method)(invoice.id, params)

    def _change_subscription(self):
        change = dict(self._random.choice(list(ON_SUBSCRIPTION.values())))
        if "items" in change:
            found = self._api.subscriptions.retrieve(self._subscription)
            [item] = found["items"].data
            change["items"] = [{"id": item.id, **change["items"][0]}]
        self._api.subscriptions.update(self._subscription, change)

    def _pass(self, time=None):
        # Stripe lists events for 30 days.
        self._receive()
        self._clock.move(seconds=(time or self._random.choice(PASSES)).total_seconds())

    def _receive(self):
        self._under_way += new_events(self._sandbox)
        return self._under_way

    def _deliver(self, count=None):
        waiting = self._receive()
        self._random.shuffle(waiting)
        count = self._random.randint(0, len(waiting)) if count is None else count
        arriving, self._under_way = waiting[:count], waiting[count:]
        for event in arriving:
            process(event)
            if self._random.random() < 0.2:
                again = StripeEventFactory(type=event.type, body=event.body)
                self._under_way.append(again)
            if self._random.random() < 0.6:
                run_tasks()


@pytest.mark.parametrize("seed", range(search.examples(6)))
def test_acts_of_staff_around_a_renewal(
    subscriber, sandbox, clock, own_wallet, rates, seed
):
    first = collect(subscriber)
    sandbox.client().v1.invoices.pay(first.pk, {"paid_out_of_band": True})
    collect(subscriber)
    skip_events(sandbox)
    subscription = subscriber.stripe_subscription_id
    history = History(sandbox, clock, subscription, seed)

    history.begin()
    if seed % 2:
        history.hold_draft()
    for _ in range(seed):
        history.act()
    history.end()

    for sent in sandbox.client().v1.invoices.list({"subscription": subscription}).data:
        assert_recorded(Stripe().invoices.get(sent.id))
    subscriber.refresh_from_db()
    assert_known(subscriber, Stripe().subscriptions.get(subscription))


def assert_recorded(invoice):
    row = InvoiceCollection.objects.get(pk=invoice.id)
    assert (row.stripe_status, row.amount_remaining_cents, row.hold) == (
        invoice.status,
        invoice.amount_remaining,
        hold_of(invoice, was_refused=row.hold == "refused"),
    )


def assert_known(tenant, live):
    """Assert that the tenant's rows show its subscription as it is, or will."""
    if is_inactive(live):
        assert tenant.stripe_subscription_id is None
        return
    assert stored_terms(tenant.pk) == read_terms(Stripe(), tenant.pk, live)
    assert are_recorded(tenant.pk, live)
    is_stale = SubscriptionSync.objects.get(pk=tenant.pk).is_stale
    assert is_stale or is_in_sync(tenant, live)
