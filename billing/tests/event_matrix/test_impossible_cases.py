"""What the table of events leaves out cannot be: each reason, tried."""

import pytest
import time_machine
from django.db import IntegrityError, transaction

from billing.clients.stripe.client import Stripe
from billing.exceptions import InvoiceNotOpen, StripeRefused
from billing.models import CardAttempt, InvoiceCollection
from billing.services.collection import cards
from billing.services.collection.collect import collect_invoice
from billing.services.invoices.records import payment_request_for
from billing.services.payment_page.bolt11 import get_or_issue_bolt11
from billing.services.subscriptions.sync import sync_tenant
from billing.tests.support.event_matrix.arrange import (
    PUBKEY,
    START,
    Stage,
    issue,
    our_wallet,
)
from billing.tests.support.event_matrix.cases import (
    ASKED,
    Attempt,
    Barred,
    Bill,
    Cell,
    Event,
    Offer,
    Payer,
    Plan,
    all_cells,
    barred,
)
from billing.tests.support.event_matrix.fake_worker import Worker
from lightning.clients.nwc import Wallet
from lightning.exceptions import PaymentInProgress
from lightning.models import LightningInvoice, NwcPayment
from lightning.tests.factories import make_invoice
from lightning.tests.support.payments import start_payment
from relays.models import Relay
from relays.services.lifecycle import deactivate_relay

pytestmark = pytest.mark.django_db

SHOWN = [Offer.SHOWN, Offer.EXPIRED]


@pytest.fixture
def stage_of(sandbox, rates, settings, monkeypatch):
    settings.ROBOT_WALLETS = [our_wallet()]
    monkeypatch.setattr(Wallet, "make_invoice", issue)
    worker = Worker()
    with worker.hired(), time_machine.travel(START, tick=False) as traveller:
        yield lambda is_draft: Stage(
            sandbox, traveller, worker, is_draft=is_draft, plan=Plan.CURRENT
        )


@pytest.fixture
def draft(stage_of):
    return stage_of(True)


@pytest.fixture
def opened(stage_of):
    return stage_of(False)


def cell(attempt=Attempt.NONE, offer=Offer.NONE, bill=Bill.OPEN) -> Cell:
    return Cell(Event.DETACHED, bill, attempt, offer, Payer.BOTH, Plan.CURRENT)


def charge(stage: Stage) -> None:
    cards.start_attempt(stage.row, stage.card, then=InvoiceCollection.Action.NOTICE)


def test_each_reason_bars_something():
    assert {barred(one) for one in all_cells()} == {*Barred, None}


def test_stripe_tells_of_a_draft_that_it_was_created_and_no_more(draft):
    told = [
        event.type
        for event in draft.api.v1.events.list({"limit": 100}).data
        if event.data.object["id"] == draft.invoice_id
    ]

    assert told == ["invoice.created"]


def test_a_draft_takes_no_payment(draft, sandbox):
    with draft.set_for(cell(bill=Bill.DRAFT)):
        with pytest.raises(InvoiceNotOpen):
            get_or_issue_bolt11(invoice_id=draft.invoice_id)
        with pytest.raises(StripeRefused):
            Stripe().pay_invoice(
                draft.invoice_id, {"payment_method": draft.card}, "barred"
            )
        sandbox.fault("status", path="/finalize$", status=500, times=None)
        collect_invoice(invoice_id=draft.invoice_id)

        assert draft.row.stripe_status == "draft"
        assert not NwcPayment.objects.exists()
        assert not CardAttempt.objects.exists()


def test_the_end_of_a_subscription_finalizes_its_drafts(draft):
    with draft.set_for(cell(bill=Bill.DRAFT)):
        deactivate_relay(relay_id=Relay.objects.get().pk)
        sync_tenant(tenant_id=PUBKEY)

        assert draft.tenant.stripe_subscription_id is None
        assert Stripe().get_invoice(draft.invoice_id).status == "paid"


def test_a_wallet_is_asked_to_pay_a_bolt11(opened):
    with opened.set_for(cell()), pytest.raises(IntegrityError), transaction.atomic():
        NwcPayment.objects.create(tenant=opened.tenant, stripe_invoice_id="in_1")


@pytest.mark.parametrize("attempt", sorted(ASKED))
def test_of_an_invoice_one_bolt11_is_open(opened, attempt):
    with opened.set_for(cell(attempt, Offer.ASKED)):
        with pytest.raises(PaymentInProgress):
            get_or_issue_bolt11(invoice_id=opened.invoice_id)
        with pytest.raises(IntegrityError), transaction.atomic():
            make_invoice(opened.tenant, "a", stripe_invoice_id=opened.invoice_id)


@pytest.mark.parametrize("offer", SHOWN)
def test_no_wallet_is_asked_while_a_person_may_pay(opened, offer):
    with opened.set_for(cell(offer=offer)), pytest.raises(PaymentInProgress):
        start_payment(payment_request_for(opened.row))


def test_what_is_under_way_is_the_one_attempt_of_a_wallet(opened):
    with opened.set_for(cell(Attempt.SENT, Offer.ASKED)):
        with pytest.raises(PaymentInProgress):
            start_payment(payment_request_for(opened.row))
        LightningInvoice.objects.update(state="expired")
        with pytest.raises(IntegrityError), transaction.atomic():
            opened.poll_wallet()


@pytest.mark.parametrize("offer", SHOWN)
def test_no_card_is_charged_while_a_person_may_pay(opened, offer):
    with opened.set_for(cell(offer=offer)), pytest.raises(PaymentInProgress):
        charge(opened)


def test_nobody_is_shown_a_bolt11_while_a_card_is_asked(opened):
    with opened.set_for(cell(Attempt.CARD_ASKED)), pytest.raises(PaymentInProgress):
        get_or_issue_bolt11(invoice_id=opened.invoice_id)


def test_nobody_is_shown_a_bolt11_of_what_a_card_has_paid(opened):
    with opened.set_for(cell(bill=Bill.BY_CARD)), pytest.raises(InvoiceNotOpen):
        get_or_issue_bolt11(invoice_id=opened.invoice_id)


@pytest.mark.parametrize("attempt", sorted(ASKED))
def test_no_card_is_charged_while_a_wallet_has_been_asked(opened, attempt):
    asked = cell(attempt, Offer.ASKED)
    with opened.set_for(asked), pytest.raises(PaymentInProgress):
        charge(opened)
