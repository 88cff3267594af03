"""Answers without optional fields are read; those without a required one are errors."""

import dataclasses
import inspect
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, get_args
from urllib.parse import unquote, urlsplit

import pytest
import stripe as sdk

from billing.clients.stripe import errors, transport
from billing.clients.stripe.account import current_account_id
from billing.clients.stripe.client import Stripe
from sandbox.stripe.api.pagination import list_object
from sandbox.stripe.objects.schemas import subscription as subscription_schema
from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.optional_fields.removal import (
    optional_paths,
    without,
)

pytestmark = pytest.mark.django_db


#: Kind of object by the collection in a request's path. A call to another one needs an
#: entry here, and its object in `answers`.
KINDS = {
    "account": "account",
    "balance_transactions": "customer_balance_transaction",
    "charges": "charge",
    "coupons": "coupon",
    "configurations": "billing_portal.configuration",
    "credit_notes": "credit_note",
    "customers": "customer",
    "disputes": "dispute",
    "early_fraud_warnings": "radar.early_fraud_warning",
    "events": "event",
    "invoice_payments": "invoice_payment",
    "invoiceitems": "invoiceitem",
    "invoices": "invoice",
    "lines": "line_item",
    "payment_intents": "payment_intent",
    "payment_methods": "payment_method",
    "prices": "price",
    "refunds": "refund",
    "sessions": "billing_portal.session",
    "subscriptions": "subscription",
    "webhook_endpoints": "webhook_endpoint",
}
_NAMESPACES = {"billing_portal", "radar"}
SECRET = ("webhook_endpoint", "secret")


@pytest.fixture
def api(sandbox):
    return sandbox.client()


@pytest.fixture
def answers(sandbox, api):
    """Answers of the sandbox: an object of each kind, most in several states."""
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
    deleted = builders.customer(api).id
    api.v1.customers.delete(deleted)
    return [
        *(customer, subscription, api.v1.subscriptions.retrieve(subscription.id)),
        *(api.v1.customers.retrieve(deleted), api.v1.accounts.retrieve_current()),
        *(
            *reversals(api, sandbox),
            *discounts(api, customer),
            *setup(api, customer, configuration),
        ),
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


def reversals(api, sandbox):
    """Return a dispute and an early fraud warning, and a refund with its charge."""
    builders.paid_charge(api, "pm_card_createDispute")
    builders.paid_charge(api, "pm_card_createIssuerFraudRecord")
    sandbox.advance(60)
    refund = api.v1.refunds.create({"charge": builders.paid_charge(api).id})
    [dispute] = api.v1.disputes.list({}).data
    [warning] = api.v1.radar.early_fraud_warnings.list({}).data
    charges = [api.v1.charges.retrieve(each.charge) for each in (refund, dispute)]
    return refund, dispute, warning, *charges, *api.v1.events.list({"limit": 3}).data


def discounts(api, customer):
    """Return two coupons, and a subscription with its discounts."""
    amount = builders.coupon(api, amount_off=100, currency="usd")
    coupon = builders.coupon(api, name="Half", metadata={"a": "b"})
    discounted = builders.subscription(
        api, to=customer, discounts=[{"coupon": coupon.id}]
    )
    whole = {"expand": ["discounts"]}
    expand = {"expand": ["applies_to"]}
    return (
        api.v1.subscriptions.retrieve(discounted.id, whole),
        *(api.v1.coupons.retrieve(each.id, expand) for each in (amount, coupon)),
    )


def setup(api, customer, configuration):
    """Return a price, an endpoint with its secret, and a portal session."""
    endpoint = {"url": "https://a.example", "enabled_events": ["*"]}
    portal = {"customer": customer.id, "configuration": configuration.id}
    return (
        builders.price(api),
        api.v1.webhook_endpoints.create(endpoint),
        api.v1.billing_portal.sessions.create(portal),
    )


class FakeAnswers:
    """Stripe that answers any request with one object, or a list of only that.

    Notes the kind of object that was requested last, and what has read it.
    """

    def __init__(self) -> None:
        self.kind = ""
        self.reader: Any = None
        self.object: Any = {}

    def note_reader(self, call):
        """Return a `StripeTransport.call` that notes the function that reads."""

        def noted(this, send, read):
            reader = read
            while isinstance(reader, partial):
                # Of a page: the reader of its objects.
                reader = next(filter(callable, reader.args), reader.func)
            self.reader = reader.__code__
            return call(this, send, read)

        return noted

    def request(self, method, url, headers, post_data=None):
        path = urlsplit(url).path.split("/")[2:]
        path = path[1:] if path[0] in _NAMESPACES else path
        *_, collection = [part for part in path[::2] if part in KINDS]
        expanded = "with discounts" if "=discounts" in unquote(url) else ""
        self.kind = f"{KINDS[collection]} {expanded}".strip()
        is_list = method == "get" and path[-1] == collection != "account"
        page = {"object": "list", "data": [self.object], "has_more": False}
        return json.dumps(page if is_list else self.object), 200, {}


@pytest.fixture
def fake(answers, monkeypatch):
    """Answer each request from then on with an object that the test sets."""
    fake = FakeAnswers()
    call = transport.StripeTransport.call
    monkeypatch.setattr(transport.StripeTransport, "call", fake.note_reader(call))
    monkeypatch.setattr(transport, "acquire", lambda **kwargs: None)
    monkeypatch.setattr(transport, "release_connection", lambda: None)
    monkeypatch.setattr(
        sdk.RequestsClient, "request", lambda self, *args, **kw: fake.request(*args)
    )
    return fake


def test_each_call_reads_answers_without_each_and_without_all_optional_fields(
    answers, fake
):
    """Also calls that are added later: `every_call` finds them."""
    samples = defaultdict(list)
    for answer in answers:
        samples[kind_of(answer)].append(answer)
    found, read_before = [], set()

    for name, call in every_call():
        kind = kind_of_answer(fake, call)
        assert samples[kind], f"{name} reads {kind}: add one to `answers`"
        # One call of each reader is enough to try it without each single field.
        is_new = (kind, fake.reader) not in read_before
        read_before.add((kind, fake.reader))
        for sample in samples[kind]:
            for removed in removals(sample, each=is_new):
                fake.object = without(sample.to_dict(for_json=True), removed)
                problems = reading_problems(call)
                found += [f"{name} without {removed}: {what}" for what in problems]

    assert found == []


def kind_of(answer):
    """Return the kind of an answer; expanded discounts make another one."""
    discounts = answer.to_dict(for_json=True).get("discounts") or [""]
    is_expanded = answer.object == "subscription" and isinstance(discounts[0], dict)
    return f"{answer.object} with discounts" if is_expanded else answer.object


def every_call():
    """Yield the name and the function of each call of the client."""
    for resource, name, method in methods():
        yield f"{resource}.{name}", partial(method, **arguments(method))
    yield "current_account_id", current_account_id


def kind_of_answer(fake, call):
    fake.object = {}
    with suppress(errors.StripeError):
        consume(call())
    return fake.kind


def removals(sample, *, each):
    """Return the paths to remove: none, each if asked, and all."""
    value = sample.to_dict(for_json=True)
    paths = list(optional_paths(type(sample), value))
    # An endpoint's secret is only sent when it is created, and then always.
    paths = [path for path in paths if (sample.object, *path) != SECRET]
    return [[], *([path] for path in paths if each), paths]


def reading_problems(call):
    try:
        return wrong_fields(consume(call()))
    except Exception as exc:
        return [repr(exc)]


def consume(found):
    return tuple(found) if isinstance(found, list | Iterator) else found


def methods():
    """Return all calls of the client, with the name of their resource."""
    return [
        (resource, name, method)
        for resource, calls in vars(Stripe()).items()
        for name, method in inspect.getmembers(calls, inspect.ismethod)
        if not name.startswith("_")
    ]


def calls():
    """Return all calls of the client, each with an argument for each parameter."""
    return [
        pytest.param(resource, name, arguments(method), id=f"{resource}.{name}")
        for resource, name, method in methods()
    ]


def arguments(method):
    return {
        name: example(parameter.annotation)
        for name, parameter in inspect.signature(method).parameters.items()
    }


def example(annotation):
    """Return a value of a parameter's type, an empty mapping for most."""
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        fields = dataclasses.fields(annotation)
        return annotation(**{field.name: example(field.type) for field in fields})
    values = {bool: True, int: 1, str: "x", list[str]: ["x"], Sequence[str]: ["x"]}
    return values.get(annotation, {})


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
        found = consume(getattr(getattr(Stripe(), resource), name)(**arguments))
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


def test_subscription_that_does_not_show_all_of_its_items_is_not_compared(
    sandbox, api, monkeypatch
):
    id = builders.subscription(api).id
    monkeypatch.setattr(
        subscription_schema, "list_object", partial(list_object, has_more=True)
    )

    with pytest.raises(errors.StripeUnreadable, match="more items"):
        Stripe().subscriptions.get(id)
    (listed,) = Stripe().subscriptions.list_page(created={}).subscriptions

    assert listed.status == "unreadable"
