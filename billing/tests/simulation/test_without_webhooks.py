"""A week without any webhook ends in the same state as one with all of them."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from billing.models import Credit, InvoiceCollection, StripeEvent
from billing.services.subscriptions.diff import LIVE
from billing.tests.support.simulation.actions import Actions, Payer
from billing.tests.support.simulation.invariants import final_faults
from billing.tests.support.simulation.system import System
from caravel.tests.support import search
from sandbox.wallets.behaviour import PAYS

pytestmark = [
    pytest.mark.django_db(transaction=True, serialized_rollback=True),
    *search.ONLY_LARGE,
]

DAY = timedelta(days=1)
CARD = "pm_card_visa"


class Week:
    """Tenants, and what they and staff do at Stripe in the week of their renewals."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.actions = actions = Actions(system)
        self.payers: dict[str, Payer] = {
            "pays when uncollectible": actions.add_tenant(),
            "voided": actions.add_tenant(),
            "cancelled unpaid": actions.add_tenant(),
            "cancelled with a final invoice": actions.add_tenant(),
            "card detached": actions.add_tenant(),
            "card attached late": actions.add_tenant(),
            "customer deleted": actions.add_tenant(wallet=PAYS),
        }
        system.run()
        for name in ("cancelled with a final invoice", "card detached"):
            actions.attach_card(self.payers[name], CARD)
        system.run()
        for payer in self.payers.values():
            for invoice in payer.unpaid:
                actions.pay_on_page(invoice.pk)
        system.run_round()

    def live(self, advance: Callable[[timedelta], None]) -> None:
        """Live through the week; the subscriptions renew on its second day."""
        actions, payers = self.actions, self.payers
        actions.detach_cards(payers["card detached"])
        advance(1.5 * DAY)
        actions.mark_uncollectible(self.renewal("pays when uncollectible"))
        self.system.exclude_from_balance(payers["voided"].pubkey)
        self.system.api.v1.invoices.void_invoice(self.renewal("voided"))
        self.cancel("cancelled unpaid")
        self.cancel("cancelled with a final invoice", invoice_now=True, prorate=True)
        # Later than the last scheduled attempt, and before the end of the grace period.
        advance(5.7 * DAY)
        actions.pay_on_page(self.renewal("pays when uncollectible", "uncollectible"))
        actions.pay_on_page(self.renewal("card detached"))
        actions.attach_card(payers["card attached late"], CARD)
        actions.delete_customer(payers["customer deleted"])
        advance(timedelta(minutes=6))

    def renewal(self, name: str, status: Any = "open") -> str:
        """Return the id of a tenant's only invoice at Stripe with this status."""
        listed = self.system.api.v1.invoices.list(
            {"customer": self.customer(name), "status": status}
        )
        (invoice,) = listed.data
        return str(invoice.id)

    def cancel(self, name: str, **params: Any) -> None:
        subscription = self.payers[name].tenant.stripe_subscription_id
        assert subscription
        api: Any = self.system.api
        api.v1.subscriptions.cancel(subscription, params)

    def customer(self, name: str) -> str:
        return str(self.payers[name].tenant.stripe_customer_id)

    def state(self) -> dict[str, Any]:
        return {name: self.state_of(payer) for name, payer in self.payers.items()}

    def state_of(self, payer: Payer) -> dict[str, Any]:
        rows = InvoiceCollection.objects.filter(tenant=payer.pubkey)
        credits = Credit.objects.filter(tenant=payer.pubkey)
        tenant = payer.tenant
        return {
            "relays": [relay.status for relay in payer.relays],
            "subscription": self.live_items(tenant.stripe_subscription_id),
            "invoices": sorted(
                rows.values_list("stripe_status", "paid_by", "total_cents", "state")
            ),
            "remaining": sum(rows.values_list("amount_remaining_cents", flat=True)),
            "credits": sorted(credits.values_list("reason", "state")),
            "credited": sum(credits.values_list("amount_cents", flat=True)),
            "overdue": tenant.payment_overdue_since is not None,
        }

    def live_items(self, subscription_id: str | None) -> dict[str, int]:
        if not subscription_id:
            return {}
        found = self.system.api.v1.subscriptions.retrieve(subscription_id)
        assert found.status in LIVE
        return {item.price.id: item.quantity or 0 for item in found.items.data}


def run(servers, *, webhooks: bool, running: bool) -> dict[str, Any]:
    """Return the state after a week, and ten days in which all is settled."""
    with System(servers) as system:
        week = Week(system)
        # Nothing happens in the first month.
        system.advance_stripe(30 * DAY)
        system.run_round()
        if not webhooks:
            system.stripe.webhook_fault("drop", times=None)
        week.live(system.advance if running else system.advance_stripe)
        system.stripe.app.webhook_faults.clear()
        system.run_round()
        system.advance(10 * DAY)
        assert not StripeEvent.objects.exclude(status="processed").exists()
        assert final_faults(system) == []
        return week.state()


def test_week_without_webhooks_ends_in_the_same_state(servers):
    expected = run(servers, webhooks=True, running=True)

    assert run(servers, webhooks=False, running=True) == expected
    # Neither does it matter when Caravel was down, and the events are a week old; but
    # nobody was there to charge a renewal before it was cancelled.
    down = run(servers, webhooks=False, running=False)
    cancelled = [
        state.pop("cancelled with a final invoice") for state in (down, expected)
    ]
    assert {state["remaining"] for state in cancelled} == {0}
    assert down == expected
