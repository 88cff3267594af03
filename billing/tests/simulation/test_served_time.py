"""Tenants pay exactly for the time that their relays ran, to the cent."""

from datetime import timedelta

import pytest

from billing.tests.support.simulation.actions import Actions, Payer
from billing.tests.support.simulation.invariants import final_faults
from billing.tests.support.simulation.served_time import Account, account_for
from billing.tests.support.simulation.system import System
from caravel.tests.support import search
from sandbox.stripe.api.context import Context
from sandbox.stripe.objects.invoices import collection
from sandbox.stripe.objects.subscriptions import cancel

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


@pytest.fixture
def system(servers):
    with System(servers) as system:
        yield system


@pytest.fixture
def actions(system) -> Actions:
    return Actions(system)


def recovered_account(system: System, payer: Payer) -> Account:
    """Recover the system, check its invariants, and return the tenant's account."""
    system.recover()
    assert final_faults(system) == []
    return account_for(system, payer.tenant)


def suspend(system: System) -> None:
    """Let the seven days of grace pass."""
    system.run()
    system.advance(7 * DAY)
    system.advance(timedelta(minutes=5))


def subscriptions(system: System) -> list[str]:
    records = system.stripe.app.store.scan("subscription")
    return [record["status"] for record in records]


def statuses(payer: Payer) -> list[str]:
    return [relay.status for relay in payer.relays]


# A basic relay is 500 cents a month, and this January has 31 days.


def test_tenant_suspended_mid_month_and_reactivated_pays_for_used_time(system, actions):
    payer = actions.add_tenant()
    suspend(system)
    assert statuses(payer) == ["delinquent"]
    account = recovered_account(system, payer)
    assert (account.owed, account.captured) == (round(500 * 7 / 31), 0)

    system.advance(3 * DAY)
    actions.attach_card(payer, "pm_card_visa")
    system.run()
    assert statuses(payer) == ["active"]
    system.advance(90 * DAY)
    actions.deactivate_all_relays()
    account = recovered_account(system, payer)

    assert account.captured == round(500 * 7 / 31) + 3 * 500
    assert (account.owed, account.credit) == (0, 0)
    assert round(account.used) == account.captured


def do_nothing(context: Context, subscription: str) -> None:
    """Leave the subscription active."""


def cancel_for_non_payment(context: Context, subscription: str) -> None:
    cancel.cancel(context, subscription, reason="payment_failed")


def cancel_without_reason(context: Context, subscription: str) -> None:
    cancel.cancel(context, subscription, reason="")


def cancel_by_request(context: Context, subscription: str) -> None:
    cancel.cancel(context, subscription)


def mark_unpaid(context: Context, subscription: str) -> None:
    collection.set_status(context, subscription, "unpaid")


@pytest.mark.parametrize(
    ("action", "days"),
    [
        (do_nothing, 7),
        (cancel_for_non_payment, 4),
        # Two more reasons that Stripe gives for the same end.
        pytest.param(cancel_by_request, 4, marks=search.ONLY_LARGE),
        pytest.param(cancel_without_reason, 4, marks=search.ONLY_LARGE),
        (mark_unpaid, 4),
    ],
)
def test_tenant_that_never_pays_gets_no_second_subscription(
    system, actions, action, days
):
    payer = actions.add_tenant()
    system.run()
    system.advance(4 * DAY)
    subscription = payer.tenant.stripe_subscription_id
    system.stripe.app.transact(lambda context: action(context, subscription))

    system.run()
    system.advance(3 * DAY)
    system.advance(timedelta(minutes=5))
    for relay in payer.relays:
        actions.activate_relay(relay.pk)
    actions.add_relay(payer, "growth")
    system.advance(35 * DAY)
    account = recovered_account(system, payer)

    assert subscriptions(system) == ["canceled"]
    assert statuses(payer) in (["delinquent"], ["inactive"])
    assert (account.captured, account.credit) == (0, 0)
    assert account.owed == round(500 * days / 31) == round(account.used)


@pytest.mark.parametrize("days", [1, 5])
def test_paid_relay_switched_off_and_on_the_same_day_is_billed_for_used_time(
    system, actions, days
):
    payer = actions.add_tenant(card="pm_card_visa")
    off_and_on(system, actions, payer, days)

    system.advance(10 * DAY)
    actions.deactivate_all_relays()
    account = recovered_account(system, payer)

    used_days = days + 10
    assert account.owed == 0
    assert account.captured - account.credit == round(500 * used_days / 31)
    assert round(account.used) == round(500 * used_days / 31)


def test_unpaid_relay_switched_off_needs_payment_before_it_is_on_again(system, actions):
    payer = actions.add_tenant()
    off_and_on(system, actions, payer, days=5)
    assert (statuses(payer), subscriptions(system)) == (["inactive"], ["canceled"])

    actions.attach_card(payer, "pm_card_visa")
    system.run()
    actions.activate_relay(payer.relays[0].pk)
    system.run()
    system.advance(10 * DAY)
    actions.deactivate_all_relays()
    account = recovered_account(system, payer)

    assert account.captured - account.credit == round(500 * 15 / 31)
    assert round(account.used) == round(500 * 15 / 31)


def test_debt_below_the_minimum_charge_does_not_block_a_relay(system, actions):
    payer = actions.add_tenant()
    off_and_on(system, actions, payer, days=1)
    account = recovered_account(system, payer)

    assert (statuses(payer), account.owed) == (["active"], round(500 / 31) + 500)


@pytest.mark.parametrize("calls", range(0, 22, 7))
def test_relay_reactivated_during_the_cancellation_is_billed(system, actions, calls):
    payer = actions.add_tenant()
    system.run()
    system.advance(5 * DAY)
    relay = payer.relays[0].pk
    actions.deactivate_relay(relay)
    system.workers.interrupt_with(lambda: actions.activate_relay(relay), after=calls)
    system.run()
    system.advance(DAY)

    recovered_account(system, payer)


@pytest.mark.parametrize("notes", ["refused", "allowed"])
def test_unused_time_of_a_written_off_invoice_is_credited(system, actions, notes):
    system.stripe.settings(credit_uncollectible=notes)
    payer = actions.add_tenant()
    system.run()
    system.advance(5 * DAY)
    actions.mark_uncollectible(payer.unpaid[0].pk)
    system.run()
    actions.deactivate_all_relays()
    account = recovered_account(system, payer)

    assert account.written_off - account.credit == round(account.used)
    assert (account.credit == 0) is (notes == "allowed")


def off_and_on(system: System, actions: Actions, payer: Payer, days: int) -> None:
    """Deactivate the relay after some days, and activate it two hours later."""
    system.run()
    system.advance(days * DAY)
    actions.deactivate_relay(payer.relays[0].pk)
    system.run()
    system.advance(2 * HOUR)
    actions.activate_relay(payer.relays[0].pk)
    system.run()
