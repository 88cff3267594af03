"""Support's decisions about invoices that no answer could end."""

from datetime import timedelta

import pytest
import time_machine
from django.db import DatabaseError, transaction

from lightning.exceptions import NotResolvable
from lightning.models import LightningInvoice, NwcPayment, Resolution
from lightning.services import invoice_status
from lightning.services.live_payments import live_payment
from lightning.tasks import check_decided_invoices
from lightning.tests.factories import make_payment_request
from lightning.tests.support.answers import SILENCE, UNPAID, answer_lookups
from lightning.tests.support.decisions import decide
from lightning.tests.support.payments import (
    get_or_issue_invoice,
    run_payment,
    start_payment,
)
from tenants.models import Activity

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("own_wallet", "prices")]

State = LightningInvoice.State
SETTLED, DEAD = Resolution.Outcome.SETTLED, Resolution.Outcome.DEAD


@pytest.fixture
def contradicted(tenant, monkeypatch):
    """An attempt whose wallet has proven it, while ours says «not paid»."""
    with monkeypatch.context() as patched:
        answer_lookups(patched, UNPAID)
        payment = run_payment(payment_id=start_payment(make_payment_request(tenant)).pk)
        NwcPayment.objects.filter(pk=payment.pk).update(node_pubkey="")
        with later(payment.invoice):
            invoice_status.check_invoice(invoice_id=payment.invoice_id)
    payment = NwcPayment.objects.select_related("invoice").get(pk=payment.pk)
    assert payment.invoice.contradicted_at
    return payment


def later(invoice, **delta):
    when = invoice.final_at + timedelta(**(delta or {"seconds": 1}))
    return time_machine.travel(when, tick=True)


def resolve(invoice, outcome, **fields):
    return decide(invoice.pk, outcome, **fields)


def test_settled_by_support_counts_as_paid(contradicted):
    with later(contradicted.invoice, hours=1):
        resolution = resolve(contradicted.invoice, SETTLED)

    contradicted.refresh_from_db()
    invoice = contradicted.invoice
    invoice.refresh_from_db()
    assert contradicted.state == NwcPayment.State.PAID
    assert (invoice.state, invoice.contradicted_at) == (State.SETTLED, None)
    assert invoice.received_msat == invoice.amount_msat
    assert invoice.preimage.reveal() == contradicted.preimage.reveal()
    assert resolution.receiver_answer == UNPAID.answer
    assert resolution.payer_answer.startswith("preimage returned at ")
    assert not contradicted.nwc_url


def test_dead_by_support_lets_the_next_rail_start(contradicted):
    with later(contradicted.invoice, hours=1):
        resolve(contradicted.invoice, DEAD)

    contradicted.refresh_from_db()
    contradicted.invoice.refresh_from_db()
    assert contradicted.state == NwcPayment.State.FAILED
    assert contradicted.invoice.state == State.DEAD
    assert live_payment(contradicted.stripe_invoice_id) is None


def test_decision_is_logged_for_the_tenant(contradicted, tenant):
    with later(contradicted.invoice, hours=1):
        resolve(contradicted.invoice, DEAD)

    activity = Activity.objects.filter(type=Activity.Type.RESOLVE_INVOICE).get()
    assert activity.tenant == tenant
    assert activity.subject_id == contradicted.invoice.payment_hash
    assert activity.snapshot == {
        "stripe_invoice": contradicted.stripe_invoice_id,
        "before": "expired",
        "after": "dead",
        "by": "support",
    }


def test_invoice_that_may_still_be_paid_cannot_be_declared_dead(contradicted):
    with (
        later(contradicted.invoice, seconds=-5),
        pytest.raises(NotResolvable, match="may still be paid"),
    ):
        resolve(contradicted.invoice, DEAD)

    assert not Resolution.objects.exists()
    contradicted.refresh_from_db()
    assert contradicted.state == NwcPayment.State.PENDING


@pytest.mark.parametrize("second", [SETTLED, DEAD])
def test_settled_invoice_is_decided_once(contradicted, second):
    with later(contradicted.invoice, hours=1):
        resolve(contradicted.invoice, SETTLED)
        with pytest.raises(NotResolvable, match="settled already"):
            resolve(contradicted.invoice, second)

    assert Resolution.objects.count() == 1


def test_mistaken_dead_can_be_corrected_to_settled(contradicted):
    with later(contradicted.invoice, hours=1):
        resolve(contradicted.invoice, DEAD)
        with pytest.raises(NotResolvable, match="dead already"):
            resolve(contradicted.invoice, DEAD)
        resolve(contradicted.invoice, SETTLED)

    contradicted.refresh_from_db()
    assert contradicted.state == NwcPayment.State.PAID
    assert Resolution.objects.count() == 2


def test_money_that_arrives_after_dead_by_support_counts(contradicted):
    with later(contradicted.invoice, hours=1):
        resolve(contradicted.invoice, DEAD)
        hashes = [contradicted.invoice.payment_hash]
        invoice_status.check_payment_hashes(payment_hashes=hashes)

    contradicted.refresh_from_db()
    assert contradicted.state == NwcPayment.State.PAID


def test_money_that_was_there_when_support_said_dead_is_found_without_a_notification(
    contradicted,
):
    with later(contradicted.invoice, hours=1):
        resolve(contradicted.invoice, DEAD)
    with later(contradicted.invoice, days=3):
        check_decided_invoices()

    contradicted.refresh_from_db()
    assert contradicted.state == NwcPayment.State.PAID


def test_dead_by_support_is_asked_about_for_a_month(
    own_wallet, contradicted, monkeypatch
):
    answer_lookups(monkeypatch, UNPAID)
    with later(contradicted.invoice, hours=1):
        resolve(contradicted.invoice, DEAD)
    with later(contradicted.invoice, days=1):
        assert invoice_status.check_decided_invoices() == 1
    with later(contradicted.invoice, days=32):
        assert invoice_status.check_decided_invoices() == 0

    contradicted.invoice.refresh_from_db()
    assert contradicted.invoice.state == State.DEAD


def test_presented_invoice_can_be_decided_without_an_attempt(tenant):
    presented = get_or_issue_invoice(make_payment_request(tenant))

    resolution = resolve(presented, SETTLED)

    presented.refresh_from_db()
    assert presented.state == State.SETTLED
    assert "no wallet was asked" in resolution.payer_answer


def test_decision_shows_that_the_last_answer_is_older_than_the_silence(
    tenant, monkeypatch
):
    presented = get_or_issue_invoice(make_payment_request(tenant))
    for answer in (UNPAID, SILENCE):
        answer_lookups(monkeypatch, answer)
        invoice_status.check_invoice(invoice_id=presented.pk)

    resolution = resolve(presented, SETTLED)

    assert resolution.receiver_answer == f"{SILENCE} Last answer: {UNPAID.answer}"


@pytest.mark.parametrize("missing", ["reason", "evidence"])
def test_decision_needs_reason_and_evidence(contradicted, missing):
    with later(contradicted.invoice, hours=1), pytest.raises(NotResolvable):
        resolve(contradicted.invoice, SETTLED, **{missing: "  "})


def test_secrets_in_a_decision_are_masked(contradicted):
    preimage = contradicted.preimage.reveal()
    payment_hash = contradicted.invoice.payment_hash

    with later(contradicted.invoice, hours=1):
        resolution = resolve(
            contradicted.invoice,
            SETTLED,
            evidence=f"{payment_hash} is paid by {preimage.upper()}",
        )

    assert resolution.evidence == f"{payment_hash} is paid by [redacted]"


def test_decisions_are_never_changed_or_deleted(contradicted):
    with later(contradicted.invoice, hours=1):
        resolution = resolve(contradicted.invoice, SETTLED)

    resolution.reason = "another"
    with pytest.raises(TypeError):
        resolution.save()
    for violation in (
        lambda: Resolution.objects.update(reason="another"),
        lambda: Resolution.objects.all().delete(),
    ):
        with pytest.raises(DatabaseError), transaction.atomic():
            violation()
