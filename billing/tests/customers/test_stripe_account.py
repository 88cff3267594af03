"""The database belongs to one Stripe account in one mode: no call to another one."""

from datetime import timedelta

import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.core.management.base import SystemCheckError
from django.utils import timezone

from billing import signals
from billing.clients.stripe import errors
from billing.clients.stripe.client import Stripe
from billing.models import InvoiceCollection, StripeAccount, StripeEvent
from billing.services.customers import stripe_account
from billing.services.events.process import process_event
from billing.services.subscriptions.sync import SyncOutcome
from billing.tasks import review_dunning
from billing.tests.factories import StripeEventFactory
from billing.tests.support.subscriptions import add_relay, all_subscriptions, sync
from billing.tests.support.threads import in_threads
from relays.models import Plan, Relay
from tenants.models import Tenant

pytestmark = pytest.mark.django_db

ACCOUNT = "/v1/account"


@pytest.fixture
def new_process(monkeypatch):
    """Continue as a process that has not called Stripe yet."""

    def start():
        monkeypatch.setattr(stripe_account, "process", stripe_account.Process())

    start()
    return start


def requested(sandbox):
    return [request["path"] for request in sandbox.requests()]


@pytest.fixture(params=["another account", "the other mode"])
def other(request, sandbox, settings):
    """Another account, whose key is set by `use_key_of`."""
    live = request.param == "the other mode"
    key = "sk_live_sandbox" if live else "sk_test_other"
    account = StripeAccount(account_id="acct_sandbox" if live else "acct_other")
    return sandbox.add_account(key, account.account_id)


def use_key_of(sandbox, settings):
    settings.STRIPE_SECRET_KEY = sandbox.api_key


def state():
    """Return all that must not change with a wrong key."""
    models = (Tenant, Relay, InvoiceCollection, Plan)
    return [list(model.objects.order_by("pk").values()) for model in models]


def test_account_is_read_once_and_before_the_first_call(sandbox, new_process):
    Stripe().prices.find("a")
    Stripe().prices.find("b")

    assert requested(sandbox) == [ACCOUNT, "/v1/prices", "/v1/prices"]
    stored = StripeAccount.objects.get()
    assert (stored.account_id, stored.livemode) == ("acct_sandbox", False)


def test_next_process_compares_its_account_and_keeps_the_stored_one(
    sandbox, new_process
):
    Stripe().prices.find("a")
    first = StripeAccount.objects.get()
    new_process()

    Stripe().prices.find("a")

    assert requested(sandbox).count(ACCOUNT) == 2
    assert StripeAccount.objects.get().since == first.since


def test_key_of_another_account_is_refused_with_the_way_out(
    sandbox, new_process, other, settings
):
    Stripe().prices.find("a")
    new_process()
    use_key_of(other, settings)

    for _ in range(2):
        with pytest.raises(errors.StripeAccountMismatch) as raised:
            Stripe().prices.create({}, "key")

    assert requested(other) == [ACCOUNT]
    assert raised.value.code == "stripe-account-mismatch"
    assert "belongs to the Stripe account acct_sandbox in test mode" in str(
        raised.value
    )
    assert str(stripe_account._current_account()) in str(raised.value)
    assert "use a new database" in str(raised.value)


def test_key_of_another_account_changes_no_tenant(
    sandbox, new_process, invoice, other, settings
):
    stripe_account.check_account()
    new_process()
    use_key_of(other, settings)
    before = state()
    event = StripeEventFactory(
        type="invoice.updated",
        object={"id": invoice.pk, "customer": invoice.stripe_customer_id},
    )

    with time_machine.travel(timezone.now() + timedelta(days=30), tick=False):
        row = sync(invoice.tenant, SyncOutcome.FAILED)
        with pytest.raises(errors.StripeAccountMismatch):
            review_dunning()
        process_event(event_id=event.pk)

    assert state() == before
    assert row.last_error_code == "stripe-account-mismatch"
    event.refresh_from_db()
    assert event.status == StripeEvent.Status.RECEIVED
    assert requested(other) == [ACCOUNT]


def test_event_waits_for_the_right_key_however_long_it_takes(
    sandbox, new_process, subscriber, other, settings
):
    stripe_account.check_account()
    new_process()
    use_key_of(other, settings)
    event = StripeEventFactory(
        type="customer.subscription.updated",
        object={"id": subscriber.stripe_subscription_id, "object": "subscription"}
        | {"customer": subscriber.stripe_customer_id},
        failures=1000,
    )

    process_event(event_id=event.pk)

    event.refresh_from_db()
    assert event.status == StripeEvent.Status.RECEIVED
    assert event.last_error_code == "stripe-account-mismatch"


def test_right_key_again_continues_where_it_stopped(
    sandbox, new_process, subscriber, settings
):
    stripe_account.check_account()
    new_process()
    right, other = settings.STRIPE_SECRET_KEY, sandbox.add_account("sk_test_other")
    use_key_of(other, settings)
    add_relay(subscriber)
    sync(subscriber, SyncOutcome.FAILED)
    new_process()
    settings.STRIPE_SECRET_KEY = right

    with time_machine.travel(timezone.now() + timedelta(hours=1)):
        sync(subscriber)

    (subscription,) = all_subscriptions(sandbox)
    assert [item.quantity for item in subscription.items.data] == [2]


def test_write_that_was_not_sent_for_the_account_is_not_unknown(
    sandbox, new_process, prices, subscriber, settings
):
    stripe_account.check_account()
    new_process()
    use_key_of(sandbox.add_account("sk_test_other"), settings)
    Tenant.objects.update(stripe_customer_id=None, stripe_subscription_id=None)
    subscriber.refresh_from_db()

    sync(subscriber, SyncOutcome.FAILED)

    pending = subscriber.stripe_writes.filter(state="pending")
    assert [(write.tried_at, write.unknown_since) for write in pending] == [
        (None, None)
    ]


@pytest.mark.parametrize("kind", ["status", "reset"])
def test_without_an_answer_nothing_is_written_and_the_next_call_checks(
    sandbox, new_process, kind
):
    sandbox.fault(kind, method="GET", path=ACCOUNT, times=3)

    with pytest.raises(errors.StripeNotExecuted) as raised:
        Stripe().prices.create({"currency": "usd"}, "key")
    assert raised.value.code == "stripe-unavailable"
    assert set(requested(sandbox)) <= {ACCOUNT}
    assert not StripeAccount.objects.exists()

    assert Stripe().prices.find("a") is None
    assert StripeAccount.objects.get().account_id == "acct_sandbox"


def test_nobody_is_suspended_before_the_account_is_known(sandbox, new_process, invoice):
    sandbox.fault("status", method="GET", path=ACCOUNT, times=3)

    with time_machine.travel(timezone.now() + timedelta(days=30)):
        with pytest.raises(errors.StripeNotExecuted):
            review_dunning()
        assert not Relay.objects.delinquent().exists()
        review_dunning()


def refuse_account(sandbox, message, status=403):
    error = {"message": message, "type": "invalid_request_error"}
    sandbox.fault("status", method="GET", path=ACCOUNT, status=status, error=error)


def test_restricted_key_is_known_by_the_account_that_the_refusal_names(
    sandbox, new_process
):
    refuse_account(
        sandbox,
        "The provided key 'rk_test_***1' does not have the required permissions for "
        "this endpoint on account 'acct_sandbox'. Having the "
        "'rak_accounts_kyc_basic_read' permission would allow this request to "
        "continue.",
    )

    assert Stripe().prices.find("a") is None

    assert StripeAccount.objects.get().account_id == "acct_sandbox"


def test_restricted_key_without_a_named_account_needs_the_permission(
    sandbox, new_process
):
    refuse_account(sandbox, "The provided key has not the required permissions.")

    with pytest.raises(errors.StripeAccountUnknown) as raised:
        Stripe().prices.find("a")

    assert raised.value.code == "stripe-account-unknown"
    assert "rak_accounts_kyc_basic_read" in str(raised.value)
    assert requested(sandbox) == [ACCOUNT]


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_of_two_first_processes_with_different_accounts_one_is_refused(
    sandbox, monkeypatch
):
    ids = iter(["acct_a", "acct_b"])
    monkeypatch.setattr(stripe_account, "current_account_id", lambda: next(ids))

    found = []

    def compare():
        found.append(stripe_account._compare(stripe_account._current_account()))

    assert in_threads(2, compare) == []
    assert sorted(map(bool, found)) == [False, True]
    assert StripeAccount.objects.count() == 1


# --- at the start


def test_worker_and_beat_refuse_to_start(sandbox, new_process, other, settings):
    stripe_account.check_account()
    signals.refuse_other_account()
    new_process()
    use_key_of(other, settings)

    with pytest.raises(SystemExit, match="belongs to the Stripe account acct_sandbox"):
        signals.refuse_other_account()


def test_worker_and_beat_start_while_stripe_is_unavailable(sandbox, new_process):
    sandbox.fault("status", method="GET", path=ACCOUNT)

    signals.refuse_other_account()

    assert Stripe().prices.find("a") is None


def test_checks_refuse_another_account(sandbox, new_process, other, settings):
    call_command("check", "--database", "default", verbosity=0)
    new_process()
    use_key_of(other, settings)

    with pytest.raises(SystemCheckError, match=r"billing\.E001.*acct_sandbox"):
        call_command("check", "--database", "default")


def test_setup_refuses_another_account(sandbox, new_process, other, settings):
    call_command("stripe_setup", verbosity=0)
    new_process()
    use_key_of(other, settings)

    with pytest.raises(CommandError, match="stripe-account-mismatch"):
        call_command("stripe_setup")

    assert requested(other) == [ACCOUNT]


def test_readyz_reports_another_account(client, sandbox, new_process, other, settings):
    stripe_account.check_account()
    new_process()
    use_key_of(other, settings)
    assert client.get("/readyz").status_code == 200
    with pytest.raises(errors.StripeAccountMismatch):
        Stripe().prices.find("a")

    response = client.get("/readyz")

    assert response.status_code == 503
    assert response.json()["error"] == "Not ready: Stripe account."


# --- another account before there are customers


def test_setup_moves_an_unused_database_to_the_account_of_the_key(
    sandbox, new_process, other, settings, capsys
):
    call_command("stripe_setup", verbosity=0)
    before = set(Plan.objects.paid().values_list("stripe_price_id", flat=True))
    new_process()
    use_key_of(other, settings)

    call_command("stripe_setup", "--switch-account")

    stored = StripeAccount.objects.get()
    assert f"The database belongs to {stored} now." in capsys.readouterr().out
    assert str(stored) == str(stripe_account._current_account())
    found = other.client().v1.prices.list({}).data
    prices = {plan.stripe_price_id for plan in Plan.objects.paid()}
    assert prices == {price.id for price in found} and not prices & before


def test_database_with_customers_never_moves_to_another_account(
    sandbox, new_process, subscriber, other, settings
):
    stripe_account.check_account()
    new_process()
    use_key_of(other, settings)
    before = state()

    with pytest.raises(CommandError, match="use a new database"):
        call_command("stripe_setup", "--switch-account")

    assert state() == before
    assert requested(other) == [ACCOUNT]
