"""Cards that are new to try: attached, made the default, replaced by the network."""

import pytest
from django.utils import timezone

from billing.clients.stripe.client import Card
from billing.models import CardAttempt, InvoiceCollection
from billing.services.collection import cards
from billing.services.collection.attempts import start_attempt_with_card
from billing.services.collection.collect import collect_invoice
from billing.tests.support.collection import (
    attach,
    card_codes,
    collect,
    collection_of,
    control,
    deliver_last,
    make_default,
    pay_by_wallet,
    run_before,
)
from billing.tests.support.reversals import record_warning
from billing.tests.support.threads import in_threads
from lightning.models import NwcPayment
from lightning.services.wallets import connect_wallet
from sandbox.wallets.behaviour import refuses
from tenants.models import Notice
from tenants.services.tenants import update_tenant

pytestmark = pytest.mark.django_db

State = InvoiceCollection.State
DECLINED, OTHER = "pm_card_chargeCustomerFail", "pm_card_mastercard"
REPLACED = "payment_method.automatically_updated"


def set_outcome(sandbox, tenant, outcome):
    metadata = {"sandbox_outcome": outcome}
    sandbox.client().v1.customers.update(
        tenant.stripe_customer_id, {"metadata": metadata}
    )


def replace_card(sandbox, card):
    control(sandbox, f"payment_methods/{card}/reissue", card=OTHER)


def captured(sandbox):
    intents = sandbox.client().v1.payment_intents.list().data
    return [each.amount_received for each in intents if each.amount_received]


# --- another default


def test_another_card_made_the_default_is_charged_at_once(subscriber, sandbox, clock):
    other = attach(sandbox, subscriber, outcome="")
    clock.move(seconds=5)
    attach(sandbox, subscriber, DECLINED, outcome="")
    assert collect(subscriber).state == State.MANUAL

    make_default(sandbox, subscriber, other)
    event = deliver_last(sandbox, "customer.updated")

    assert event.outcome == "a new card for 1 open invoices"
    assert collect(subscriber).paid_by == "card"
    assert card_codes() == ["generic_decline", ""]


def test_default_that_has_changed_back_since_the_event_starts_nothing(
    subscriber, sandbox, clock
):
    other = attach(sandbox, subscriber, outcome="")
    clock.move(seconds=5)
    default = attach(sandbox, subscriber, DECLINED, outcome="")
    collect(subscriber)

    make_default(sandbox, subscriber, other)
    make_default(sandbox, subscriber, default)
    deliver_last(sandbox, "customer.updated")
    collect(subscriber)

    assert card_codes() == ["generic_decline"]


def test_default_that_we_have_set_ourselves_is_charged_once(subscriber, sandbox):
    attach(sandbox, subscriber, DECLINED, outcome="")
    collect(subscriber)

    event = deliver_last(sandbox, "customer.updated")
    collect(subscriber)

    assert event.outcome == "a new card for 0 open invoices"
    assert card_codes() == ["generic_decline"]


def test_other_change_of_the_customer_starts_nothing(subscriber, sandbox):
    attach(sandbox, subscriber, DECLINED, outcome="")
    collect(subscriber)
    api = sandbox.client().v1
    api.customers.update(subscriber.stripe_customer_id, {"name": "Ann"})

    event = deliver_last(sandbox, "customer.updated")

    assert event.outcome == "the default card is the same"


@pytest.mark.parametrize("reverse", [False, True])
def test_card_from_the_portal_is_charged_once_although_two_events_report_it(
    subscriber, sandbox, clock, reverse
):
    collect(subscriber)
    clock.move(minutes=1)
    path = f"customers/{subscriber.stripe_customer_id}/cards"
    control(sandbox, path, card=DECLINED)

    types = ["payment_method.attached", "customer.updated"]
    for type in reversed(types) if reverse else types:
        deliver_last(sandbox, type)
        collect(subscriber)

    assert card_codes() == ["generic_decline"]


# --- a second card


def test_card_added_after_a_refusal_is_charged_before_it_is_the_default(
    subscriber, sandbox, clock
):
    """Stripe reports the card first, and that it is the default a moment later."""
    attach(sandbox, subscriber, DECLINED, outcome="")
    collect(subscriber)
    clock.move(minutes=1)
    second = attach(sandbox, subscriber, outcome="")

    deliver_last(sandbox, "payment_method.attached")

    assert collect(subscriber).paid_by == "card"
    assert card_codes() == ["generic_decline", ""]
    assert default_card(sandbox, subscriber) == second


def test_default_chosen_after_a_second_card_was_charged_is_charged(
    subscriber, sandbox, clock
):
    first = attach(sandbox, subscriber, outcome="insufficient_funds")
    collect(subscriber)
    clock.move(minutes=1)
    attach(sandbox, subscriber, DECLINED, outcome="")
    deliver_last(sandbox, "payment_method.attached")
    collect(subscriber)

    make_default(sandbox, subscriber, first)
    deliver_last(sandbox, "customer.updated")

    assert collect(subscriber).paid_by == "card"
    assert card_codes() == ["insufficient_funds", "generic_decline", ""]
    assert default_card(sandbox, subscriber) == first


def test_refused_card_is_not_charged_again_because_a_second_one_is_lost(
    subscriber, sandbox, clock
):
    attach(sandbox, subscriber, outcome="insufficient_funds")
    collect(subscriber)
    clock.move(minutes=1)
    attach(sandbox, subscriber, OTHER, outcome="lost_card")
    deliver_last(sandbox, "payment_method.attached")

    collect(subscriber)
    collect(subscriber)

    assert card_codes() == ["insufficient_funds", "lost_card"]


def test_event_about_a_lost_card_does_not_charge_the_older_one_again(
    subscriber, sandbox, clock
):
    """Two events report the new card; the older one was charged in between."""
    attach(sandbox, subscriber, DECLINED, outcome="")
    clock.move(minutes=1)
    outcomes = "lost_card,insufficient_funds"
    lost = attach(sandbox, subscriber, OTHER, outcome=outcomes)
    make_default(sandbox, subscriber, lost)
    collect(subscriber)

    deliver_last(sandbox, "customer.updated")
    collect(subscriber)

    assert card_codes() == outcomes.split(",")


def test_disputed_card_that_is_added_again_does_not_charge_a_refused_one_again(
    subscriber, sandbox, clock
):
    attach(sandbox, subscriber, outcome="insufficient_funds")
    first = collect(subscriber)
    clock.move(minutes=1)
    record_warning(sandbox, first, attach(sandbox, subscriber, OTHER))

    event = deliver_last(sandbox, "payment_method.attached")
    collect(subscriber)

    assert event.outcome == "a new card for 0 open invoices"
    assert card_codes() == ["insufficient_funds"]


# --- a card that was replaced in place


def test_card_replaced_after_it_was_lost_is_charged_at_once(subscriber, sandbox):
    card = attach(sandbox, subscriber, outcome="lost_card")
    collect(subscriber)
    set_outcome(sandbox, subscriber, "succeed")

    replace_card(sandbox, card)
    event = deliver_last(sandbox, REPLACED)

    assert event.outcome == "a new card for 1 open invoices"
    assert collect(subscriber).paid_by == "card"
    assert card_codes() == ["lost_card", ""]


def test_card_with_a_new_expiry_date_is_charged_at_once(subscriber, sandbox):
    card = attach(sandbox, subscriber, outcome="lost_card")
    collect(subscriber)
    set_outcome(sandbox, subscriber, "succeed")

    expiry = {"exp_month": 12, "exp_year": 2040}
    sandbox.client().v1.payment_methods.update(card, {"card": expiry})
    deliver_last(sandbox, "payment_method.updated")

    assert collect(subscriber).paid_by == "card"


def test_other_change_of_a_declined_card_starts_nothing(subscriber, sandbox):
    card = attach(sandbox, subscriber, DECLINED, outcome="")
    collect(subscriber)

    sandbox.client().v1.payment_methods.update(card, {"metadata": {"a": "b"}})
    event = deliver_last(sandbox, "payment_method.updated")
    collect(subscriber)

    assert event.outcome == "it has been charged as it is now, or never"
    assert card_codes() == ["generic_decline"]


def test_replaced_card_that_is_lost_again_is_not_charged_a_third_time(
    subscriber, sandbox, clock
):
    card = attach(sandbox, subscriber, outcome="lost_card")
    collect(subscriber)
    replace_card(sandbox, card)

    for _ in range(2):
        deliver_last(sandbox, REPLACED)
        collect(subscriber)
    clock.move(days=1, hours=1)
    collect(subscriber)

    assert card_codes() == ["lost_card", "lost_card"]


def test_replaced_card_that_was_detached_since_starts_nothing(subscriber, sandbox):
    card = attach(sandbox, subscriber, outcome="lost_card")
    collect(subscriber)
    replace_card(sandbox, card)
    sandbox.client().v1.payment_methods.detach(card)

    event = deliver_last(sandbox, REPLACED)

    assert event.outcome == "it is not attached any more"


def test_attempt_from_before_numbers_were_recorded_still_counts(subscriber, sandbox):
    card = attach(sandbox, subscriber, outcome="lost_card")
    collect(subscriber)
    CardAttempt.objects.update(card_fingerprint="", card_expires="")

    replace_card(sandbox, card)
    deliver_last(sandbox, REPLACED)
    collect(subscriber)

    assert card_codes() == ["lost_card"]


# --- while autopay is paused


def test_card_saved_while_autopay_is_paused_is_charged_once_it_is_resumed(
    subscriber, sandbox, clock
):
    update_tenant(pubkey=subscriber.pk, autopay_paused=True)
    collect(subscriber)
    clock.move(minutes=1)
    attach(sandbox, subscriber)
    assert collect(subscriber).state == State.MANUAL

    update_tenant(pubkey=subscriber.pk, autopay_paused=False)

    due = InvoiceCollection.objects.filter(enqueued_at__isnull=False)
    assert [row.pk for row in due] == [collection_of(subscriber).pk]
    assert collect(subscriber).paid_by == "card"


# --- without events


@pytest.fixture
def given_up(subscriber, sandbox, clock):
    """The tenant, after all scheduled attempts; its card is lost."""
    attach(sandbox, subscriber, outcome="lost_card")
    for days in (0, 1, 2, 4):
        clock.move(days=days, minutes=1)
        collect(subscriber)
    assert card_codes() == ["lost_card"]
    set_outcome(sandbox, subscriber, "succeed")
    return subscriber


def default_card(sandbox, tenant):
    customer = sandbox.client().v1.customers.retrieve(tenant.stripe_customer_id)
    return customer.invoice_settings.default_payment_method


@pytest.mark.parametrize("change", ["attached", "made the default", "replaced"])
def test_new_card_is_found_by_the_periodic_check_if_its_event_was_lost(
    given_up, sandbox, clock, change
):
    if change == "replaced":
        replace_card(sandbox, default_card(sandbox, given_up))
    else:
        card = attach(sandbox, given_up)
        if change == "made the default":
            make_default(sandbox, given_up, card)
    clock.move(hours=6)

    due = InvoiceCollection.objects.working().claim(now=timezone.now())
    assert due == [collection_of(given_up).pk]
    assert collect(given_up).paid_by == "card"
    assert card_codes() == ["lost_card", ""]


def test_new_card_found_by_the_periodic_check_is_tried_once(given_up, sandbox, clock):
    attach(sandbox, given_up, outcome="insufficient_funds")

    for _ in range(4):
        clock.move(hours=6)
        collect(given_up)

    assert card_codes() == ["lost_card", "insufficient_funds"]


def test_periodic_check_finds_no_card_while_autopay_is_paused(given_up, sandbox, clock):
    type(given_up).objects.update(autopay_paused=True)
    attach(sandbox, given_up)

    clock.move(hours=6)
    collect(given_up)

    assert card_codes() == ["lost_card"]


# --- races


def test_event_between_choice_and_charge_does_not_charge_the_card_twice(
    subscriber, sandbox, monkeypatch
):
    """Our own change of the default may be reported before the charge is recorded."""
    attach(sandbox, subscriber, DECLINED, outcome="")

    run_before(
        monkeypatch,
        cards,
        "start_attempt",
        lambda: deliver_last(sandbox, "customer.updated"),
    )
    collect(subscriber)
    collect(subscriber)

    assert card_codes() == ["generic_decline"]


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_new_card_reported_to_several_workers_is_charged_once(subscriber, sandbox):
    collect(subscriber)
    attach(sandbox, subscriber)
    invoice_id = collection_of(subscriber).pk

    def work():
        deliver_last(sandbox, "payment_method.attached")
        collect_invoice(invoice_id=invoice_id)

    assert in_threads(3, work) == []
    collect(subscriber)

    assert captured(sandbox) == [500]
    assert CardAttempt.objects.count() == 1
    assert collection_of(subscriber).paid_by == "card"


def test_new_card_during_a_wallet_payment_waits_for_it(
    subscriber, sandbox, alice, rates
):
    connect_wallet(pubkey=subscriber.pk, nwc_url=alice.url)
    alice.behaviour = refuses("INSUFFICIENT_BALANCE")
    collect(subscriber)
    card = Card(attach(sandbox, subscriber), created=0)

    start_attempt_with_card(tenant_id=subscriber.pk, card=card)
    assert collect(subscriber).state == State.PENDING
    pay_by_wallet()

    assert collect(subscriber).paid_by == "card"
    assert NwcPayment.objects.get().state == "refused"


# --- a bank account as the default


def bank_default(sandbox, tenant, account):
    api = sandbox.client().v1
    customer = tenant.stripe_customer_id
    method = api.payment_methods.attach(account, {"customer": customer}).id
    make_default(sandbox, tenant, method)
    return method


def test_bank_account_as_default_is_debited_once(subscriber, sandbox, clock):
    bank_default(sandbox, subscriber, "pm_usBankAccount_success")
    attach(sandbox, subscriber)

    for _ in range(3):
        first = collect(subscriber)
        assert (first.state, first.stripe_status) == (State.PENDING, "open")
        clock.move(days=1, hours=1)
    clock.move(days=1)
    first = collect(subscriber)

    assert (first.paid_by, card_codes(), captured(sandbox)) == ("card", [""], [500])
    assert not Notice.objects.exists()


def test_debit_that_fails_is_refused_with_the_reason_of_the_bank(
    subscriber, sandbox, clock
):
    bank_default(sandbox, subscriber, "pm_usBankAccount_insufficientFunds")
    collect(subscriber)

    clock.move(days=4, minutes=1)
    first = collect(subscriber)

    assert card_codes()[0] == "insufficient_funds"
    notice = Notice.objects.get(kind="payment_failed")
    assert notice.title == f"Your bank account did not pay invoice {first.number}"


def test_closed_bank_account_is_not_debited_again(subscriber, sandbox, clock):
    bank_default(sandbox, subscriber, "pm_usBankAccount_accountClosed")

    for _ in range(4):
        collect(subscriber)
        clock.move(days=3)

    assert card_codes() == ["account_closed"]


def test_card_is_charged_if_the_default_bank_account_has_another_currency(
    subscriber, sandbox
):
    default = bank_default(sandbox, subscriber, "pm_success_de")
    card = attach(sandbox, subscriber)

    assert collect(subscriber).paid_by == "card"
    assert CardAttempt.objects.get().payment_method == card
    assert default_card(sandbox, subscriber) == default


def test_bank_account_that_cannot_pay_does_not_charge_a_refused_card_again(
    subscriber, sandbox, clock
):
    attach(sandbox, subscriber, outcome="insufficient_funds")
    collect(subscriber)
    clock.move(minutes=1)
    bank_default(sandbox, subscriber, "pm_success_de")

    for event in ("payment_method.attached", "customer.updated"):
        deliver_last(sandbox, event)
        collect(subscriber)

    assert card_codes() == ["insufficient_funds"]


# --- what the tenant reads


def test_notice_of_a_refused_card_has_no_codes(subscriber, sandbox):
    attach(sandbox, subscriber, DECLINED, outcome="")
    collect(subscriber)

    notice = Notice.objects.get(kind="payment_failed")
    assert "Your card was declined." in notice.text
    assert "card_declined" not in notice.text


def test_notice_of_a_charge_that_stripe_refuses_has_no_technical_text(
    subscriber, sandbox
):
    card = attach(sandbox, subscriber)
    error = {"message": f"No such PaymentMethod: {card}", "code": "resource_missing"}
    sandbox.fault("status", path="/pay$", status=400, error=error)
    collect(subscriber)

    notice = Notice.objects.get(kind="payment_failed")
    assert card_codes() == ["resource_missing"]
    assert card not in notice.text


def test_notice_about_authentication_has_no_text_for_developers(subscriber, sandbox):
    attach(sandbox, subscriber, outcome="requires_action")
    collect(subscriber)

    notice = Notice.objects.get(kind="payment_failed")
    assert "PaymentIntent" not in notice.text
    assert "Your bank wants you to confirm the payment." in notice.text
