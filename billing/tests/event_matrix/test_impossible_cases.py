"""The cases that the event matrix leaves out cannot occur: one test per reason."""

import pytest
import time_machine
from django.db import IntegrityError, transaction

from billing.clients.stripe.client import Card, Stripe
from billing.clients.stripe.errors import StripeRefused
from billing.exceptions import InvoiceNotOpen
from billing.models import CardAttempt, InvoiceCollection
from billing.services.collection import cards
from billing.services.collection.collect import collect_invoice
from billing.services.invoices.records import payment_request_for
from billing.services.payment_page.bolt11 import get_or_issue_bolt11
from billing.services.subscriptions.sync import sync_tenant
from billing.tests.support.event_matrix.arrange import (
    PUBKEY,
    START,
    CaseSetup,
)
from billing.tests.support.event_matrix.cases import (
    WALLET_PENDING,
    Attempt,
    Bolt11State,
    Case,
    Event,
    Impossible,
    InvoiceState,
    PaymentMethods,
    SubscriptionState,
    all_cases,
    why_impossible,
)
from lightning.exceptions import PaymentInProgress
from lightning.models import LightningInvoice, NwcPayment
from lightning.tests.factories import make_invoice
from lightning.tests.support.payments import start_payment
from relays.models import Relay
from relays.services.lifecycle import deactivate_relay

pytestmark = pytest.mark.django_db

PAYABLE_BOLT11S = [Bolt11State.PRESENTED, Bolt11State.EXPIRED]


@pytest.fixture
def make_setup(worker, sandbox, saved_setups):
    with time_machine.travel(START, tick=False) as traveller:
        yield lambda is_draft: CaseSetup(
            sandbox,
            traveller,
            worker,
            saved_setups,
            is_draft=is_draft,
            subscription=SubscriptionState.CURRENT,
        )


@pytest.fixture
def draft_setup(make_setup):
    return make_setup(True)


@pytest.fixture
def open_setup(make_setup):
    return make_setup(False)


def make_case(
    attempt=Attempt.NONE, bolt11=Bolt11State.NONE, invoice=InvoiceState.OPEN
) -> Case:
    return Case(
        Event.DETACHED,
        invoice,
        attempt,
        bolt11,
        PaymentMethods.BOTH,
        SubscriptionState.CURRENT,
    )


def charge(case_setup: CaseSetup) -> None:
    card = Card(case_setup.card, created=0)
    cards.start_attempt(case_setup.row, card, then=InvoiceCollection.Action.NOTICE)


def test_every_reason_excludes_a_case():
    assert {why_impossible(case) for case in all_cases()} == {*Impossible, None}


def test_only_event_of_a_draft_is_invoice_created(draft_setup):
    event_types = [
        event.type
        for event in draft_setup.api.v1.events.list({"limit": 100}).data
        if event.data.object["id"] == draft_setup.invoice_id
    ]

    assert event_types == ["invoice.created"]


def test_draft_cannot_be_paid(draft_setup, sandbox):
    with draft_setup.arrange(make_case(invoice=InvoiceState.DRAFT)):
        with pytest.raises(InvoiceNotOpen):
            get_or_issue_bolt11(invoice_id=draft_setup.invoice_id)
        with pytest.raises(StripeRefused):
            Stripe().invoices.pay(
                draft_setup.invoice_id,
                {"payment_method": draft_setup.card},
                "impossible",
            )
        sandbox.fault("status", path="/finalize$", status=500, times=None)
        collect_invoice(invoice_id=draft_setup.invoice_id)

        assert draft_setup.row.stripe_status == "draft"
        assert not NwcPayment.objects.exists()
        assert not CardAttempt.objects.exists()


def test_ending_a_subscription_finalizes_its_drafts(draft_setup):
    with draft_setup.arrange(make_case(invoice=InvoiceState.DRAFT)):
        deactivate_relay(relay_id=Relay.objects.get().pk)
        sync_tenant(tenant_id=PUBKEY)

        assert draft_setup.tenant.stripe_subscription_id is None
        assert Stripe().invoices.get(draft_setup.invoice_id).status == "paid"


def test_wallet_attempt_needs_a_bolt11(open_setup):
    with (
        open_setup.arrange(make_case()),
        pytest.raises(IntegrityError),
        transaction.atomic(),
    ):
        NwcPayment.objects.create(tenant=open_setup.tenant, stripe_invoice_id="in_1")


@pytest.mark.parametrize("attempt", sorted(WALLET_PENDING))
def test_no_second_open_bolt11_while_a_wallet_attempt_is_pending(open_setup, attempt):
    with open_setup.arrange(make_case(attempt, Bolt11State.WITH_WALLET)):
        with pytest.raises(PaymentInProgress):
            get_or_issue_bolt11(invoice_id=open_setup.invoice_id)
        with pytest.raises(IntegrityError), transaction.atomic():
            make_invoice(
                open_setup.tenant, "a", stripe_invoice_id=open_setup.invoice_id
            )


@pytest.mark.parametrize("bolt11", PAYABLE_BOLT11S)
def test_no_wallet_attempt_while_a_presented_bolt11_may_be_paid(open_setup, bolt11):
    with open_setup.arrange(make_case(bolt11=bolt11)), pytest.raises(PaymentInProgress):
        start_payment(payment_request_for(open_setup.row))


def test_no_second_wallet_attempt_while_one_is_pending(open_setup):
    with open_setup.arrange(make_case(Attempt.WALLET_SENT, Bolt11State.WITH_WALLET)):
        with pytest.raises(PaymentInProgress):
            start_payment(payment_request_for(open_setup.row))
        LightningInvoice.objects.update(state="expired")
        with pytest.raises(IntegrityError), transaction.atomic():
            open_setup.add_wallet_attempt()


@pytest.mark.parametrize("bolt11", PAYABLE_BOLT11S)
def test_no_card_charge_while_a_presented_bolt11_may_be_paid(open_setup, bolt11):
    with open_setup.arrange(make_case(bolt11=bolt11)), pytest.raises(PaymentInProgress):
        charge(open_setup)


def test_no_bolt11_while_a_card_charge_is_pending(open_setup):
    with (
        open_setup.arrange(make_case(Attempt.CARD_PENDING)),
        pytest.raises(PaymentInProgress),
    ):
        get_or_issue_bolt11(invoice_id=open_setup.invoice_id)


def test_no_bolt11_for_an_invoice_paid_by_card(open_setup):
    with (
        open_setup.arrange(make_case(invoice=InvoiceState.PAID_BY_CARD)),
        pytest.raises(InvoiceNotOpen),
    ):
        get_or_issue_bolt11(invoice_id=open_setup.invoice_id)


@pytest.mark.parametrize("attempt", sorted(WALLET_PENDING))
def test_no_card_charge_while_a_wallet_attempt_is_pending(open_setup, attempt):
    pending = make_case(attempt, Bolt11State.WITH_WALLET)
    with open_setup.arrange(pending), pytest.raises(PaymentInProgress):
        charge(open_setup)
