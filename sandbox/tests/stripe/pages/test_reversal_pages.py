"""Refunds, disputes and bank debits on the dashboard and on the hosted invoice page."""

import pytest
import requests

from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.web import fetch, part, words


@pytest.fixture
def act(stripe_sandbox):
    """Function that posts a form of the dashboard and returns the status."""

    def act(action, **form):
        url = f"{stripe_sandbox.url}/_pages/{action}"
        headers = {"Origin": stripe_sandbox.url}
        answer = requests.post(
            url, data=form, headers=headers, allow_redirects=False, timeout=60
        )
        return answer.status_code

    return act


def invoice_row(sandbox):
    page = requests.get(sandbox.url, timeout=60).text
    return words(part(page, "invoices"))


def object_page(sandbox, id):
    return words(requests.get(f"{sandbox.url}/?id={id}", timeout=60).text)


def processing_intent(api):
    payer, method = builders.paying_customer(api, "pm_usBankAccount_processing")
    invoice = builders.open_invoice(api, payer)
    api.v1.invoices.pay(invoice.id, {"payment_method": method.id})
    return builders.intent_of(api, invoice.id), invoice


def test_charge_is_refunded_on_its_page(api, stripe_sandbox, act):
    charge = builders.paid_charge(api)
    buttons = object_page(stripe_sandbox, charge.id)

    statuses = [act("refund", id=charge.id), act("refund", id=charge.id)]

    invoice = builders.invoice_of(api, charge)
    assert "Refund what is left Open a dispute" in buttons
    assert statuses == [303, 400]
    assert "$10.00 refunded" in invoice_row(stripe_sandbox)
    assert "Refunded $10.00" in words(fetch(invoice.hosted_invoice_url).text)


@pytest.mark.parametrize("outcome", ["won", "lost"])
def test_dispute_is_opened_and_closed_on_the_dashboard(
    api, stripe_sandbox, act, outcome
):
    charge = builders.paid_charge(api)
    act("dispute", id=charge.id)
    dispute = api.v1.disputes.list({"charge": charge.id}).data[0]
    row, buttons = (
        invoice_row(stripe_sandbox),
        object_page(stripe_sandbox, dispute.id),
    )

    assert act("close-dispute", id=dispute.id, outcome=outcome) == 303

    assert "dispute: needs response" in row
    assert "Win the dispute Lose the dispute" in buttons
    assert api.v1.disputes.retrieve(dispute.id).status == outcome


@pytest.mark.parametrize(
    ("outcome", "status"), [("succeeded", "succeeded"), ("failed", "failed")]
)
def test_pending_refund_is_settled_on_its_page(
    api, stripe_sandbox, act, outcome, status
):
    charge = builders.paid_charge(api, "pm_card_pendingRefund")
    refund = api.v1.refunds.create({"charge": charge.id})
    buttons = object_page(stripe_sandbox, refund.id)

    act("settle", id=refund.id, outcome=outcome)

    assert "Let the refund succeed Let the refund fail" in buttons
    assert api.v1.refunds.retrieve(refund.id).status == status


def test_bank_debit_is_settled_on_the_page_of_its_intent(api, stripe_sandbox, act):
    intent, invoice = processing_intent(api)
    row = invoice_row(stripe_sandbox)
    hosted = words(fetch(invoice.hosted_invoice_url).text)

    act("settle", id=intent.id, outcome="succeeded")

    assert "payment processing" in row
    assert "Your bank is processing the payment." in hosted
    assert "Pay $10.00" not in hosted
    assert "A bank account" in words(fetch(invoice.hosted_invoice_url).text)


def test_portal_lists_cards_only(api, stripe_sandbox):
    payer, _ = builders.paying_customer(api, "pm_usBankAccount_success")
    stripe_sandbox.save_portal()
    session = api.v1.billing_portal.sessions.create({"customer": payer.id})

    assert fetch(session.url).status_code == 200
