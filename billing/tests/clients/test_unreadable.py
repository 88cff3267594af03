"""Answers without optional fields are read; those without a required one are errors."""

import dataclasses
import inspect
from typing import Any, get_args

import pytest
import stripe as sdk

from billing.clients.stripe import errors, portal, reversals, types
from billing.clients.stripe.client import Stripe
from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.optional_fields.removal import (
    optional_paths,
    without,
)

pytestmark = pytest.mark.django_db


READERS = {
    "billing_portal.configuration": portal.read_configuration,
    "charge": reversals.read_charge,
    "credit_note": types.read_credit_note,
    "customer": types.read_customer,
    "customer_balance_transaction": types.read_balance_transaction,
    "dispute": reversals.read_dispute,
    "invoice": types.read_invoice,
    "invoice_payment": types.read_invoice_payment,
    "invoiceitem": types.read_pending_item,
    "line_item": types.read_line,
    "payment_intent": types.read_payment_intent,
    "payment_method": types.read_card,
    "radar.early_fraud_warning": reversals.read_fraud_warning,
    "refund": reversals.read_refund,
    "subscription": types.read_subscription,
}


@pytest.fixture
def api(sandbox):
    return sandbox.client()


@pytest.fixture
def answers(sandbox, api):
    """Answers of the sandbox: each object that the client reads, in several states."""
    customer = builders.customer(api, metadata={"tenant_pubkey": "ab"})
    subscription = builders.subscription(api, to=customer, metadata={"a": "b"})
    draft = api.v1.invoices.retrieve(subscription.latest_invoice)
    opened = builders.first_invoice(api, subscription)
    sandbox.advance(3 * builders.DAY)
    changes = [{"id": subscription.items.data[0].id, "quantity": 2}]
    api.v1.subscriptions.update(subscription.id, {"items": changes})
    pending = api.v1.invoice_items.list({"customer": customer.id}).data
    note = api.v1.credit_notes.create({"invoice": opened.id, "amount": 100})
    api.v1.subscriptions.cancel(subscription.id)
    paid = api.v1.invoices.pay(
        opened.id, {"paid_out_of_band": True, "expand": ["amount_paid_off_stripe"]}
    )
    transaction = api.v1.customers.balance_transactions.create(
        customer.id, {"amount": -5, "currency": "usd", "metadata": {"a": "b"}}
    )
    configuration = api.v1.billing_portal.configurations.create(
        {"features": {"payment_method_update": {"enabled": True}}}
    )
    return [
        *(customer, subscription, api.v1.subscriptions.retrieve(subscription.id)),
        *(draft, opened, paid, opened.lines.data[0], *pending),
        *(note, transaction, configuration, *payments(api, paid.id)),
        *(
            answer
            for card in ("visa", "chargeCustomerFail", "authenticationRequired")
            for answer in card_payment(api, f"pm_card_{card}")
        ),
    ]


def card_payment(api, card):
    customer, method = builders.paying_customer(api, card)
    subscription = builders.automatic(api, to=customer)
    invoice = subscription.latest_invoice
    expand = ["payments.data.payment.payment_intent"]
    whole = api.v1.invoices.retrieve(invoice, {"expand": expand})
    return customer, method, subscription, whole, *payments(api, invoice)


def payments(api, invoice):
    [payment] = api.v1.invoice_payments.list({"invoice": invoice}).data
    return payment, api.v1.payment_intents.retrieve(payment.payment.payment_intent)


def wrong_fields(found: Any) -> list[str]:
    """Return the fields of a reader's result that are None, but must not be."""
    if isinstance(found, tuple):
        return [name for each in found for name in wrong_fields(each)]
    if not dataclasses.is_dataclass(found):
        return []
    return [
        f"{type(found).__name__}.{field.name}"
        for field in dataclasses.fields(found)
        if getattr(found, field.name) is None and type(None) not in get_args(field.type)
    ]


def test_answers_are_read_without_each_and_without_all_optional_fields(answers):
    found = [problem for answer in answers for problem in reading_problems(answer)]

    assert {answer.object for answer in answers} == READERS.keys()
    assert found == []


def reading_problems(answer):
    cls, read = type(answer), READERS[answer.object]
    value = answer.to_dict(for_json=True)
    paths = list(optional_paths(cls, value))
    for removed in ([], *([path] for path in paths), paths):
        stripped = cls.construct_from(without(value, removed), "sk_test")
        try:
            yield from wrong_fields(read(stripped))
        except Exception as exc:
            yield f"{cls.__name__} without {removed}: {exc!r}"


def calls():
    """Return all calls of the client, each with an argument for each parameter."""
    client = Stripe()
    methods = [
        (resource, name, method)
        for resource, calls in vars(client).items()
        for name, method in inspect.getmembers(calls, inspect.ismethod)
        if not name.startswith("_")
    ]
    return [
        pytest.param(resource, name, arguments(method), id=f"{resource}.{name}")
        for resource, name, method in methods
    ]


def arguments(method):
    values = {bool: True, str: "x", list[str]: ["x"]}
    return {
        name: values.get(parameter.annotation, {})
        for name, parameter in inspect.signature(method).parameters.items()
    }


@pytest.mark.parametrize(("resource", "name", "arguments"), calls())
@pytest.mark.parametrize("body", [b"{}", b"null"])
def test_no_call_fails_without_a_code(
    sandbox, monkeypatch, resource, name, arguments, body
):
    sent = []

    def answer(self, method, url, headers, post_data=None):
        sent.append(url)
        return body, 200, {}

    monkeypatch.setattr(sdk.RequestsClient, "request", answer)

    try:
        found = getattr(getattr(Stripe(), resource), name)(**arguments)
    except errors.StripeUnreadable as exc:
        assert exc.code == "stripe-answer-unreadable"
    else:
        assert found is None
    # Another try would be answered in the same way.
    assert len(sent) == 1


def test_a_secret_that_is_missing_is_not_read_as_text(sandbox, monkeypatch):
    body = b'{"id": "we_1", "object": "webhook_endpoint", "secret": null}'
    monkeypatch.setattr(
        sdk.RequestsClient, "request", lambda *args, **kwargs: (body, 200, {})
    )

    with pytest.raises(errors.StripeUnreadable):
        Stripe().webhook_endpoints.create("https://example.com", ["*"])
