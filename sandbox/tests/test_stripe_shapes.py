"""Every response has the fields that stripe-python's classes declare."""

import builtins
import sys
import types
import typing
from decimal import Decimal
from functools import cache
from typing import Any, Union, get_args, get_origin

import pytest
import stripe

from sandbox.stripe.objects import (
    customers,
    events,
    invoice_items,
    invoice_payments,
    invoices,
    payment_intents,
    payment_methods,
    prices,
    products,
    subscriptions,
    webhook_endpoints,
)
from sandbox.tests import stripe_story as story

# Fields Stripe leaves out unless they are asked for with `expand`, or never sends
# to the kind of account the sandbox is.
LEFT_OUT: dict[type, set[str]] = {
    stripe.Customer: {
        "cash_balance",
        "deleted",
        "invoice_credit_balance",
        "sources",
        "subscriptions",
        "tax",
        "tax_ids",
    },
    stripe.Invoice: {
        "amount_paid_off_stripe",
        "confirmation_secret",
        "deleted",
        "payments",
    },
    stripe.Price: {"currency_options", "deleted", "tiers"},
    stripe.Plan: {"deleted", "tiers"},
    stripe.Product: {"deleted"},
    stripe.SubscriptionItem: {"deleted"},
    stripe.InvoiceItem: {"deleted"},
    stripe.WebhookEndpoint: {"deleted", "secret"},
    stripe.Event.Data: {"previous_attributes"},
    # Of the kinds of payment method, only the one it is.
    stripe.PaymentMethod: {
        name
        for name in stripe.PaymentMethod.__annotations__
        if hasattr(stripe.PaymentMethod, name.title().replace("_", ""))
    }
    - {"billing_details", "card", "radar_options"},
    stripe.PaymentIntent.NextAction: (
        set(stripe.PaymentIntent.NextAction.__annotations__)
        - {"type", "use_stripe_sdk"}
    ),
    stripe.Charge: {"refunds"},
    stripe.Charge.PaymentMethodDetails: (
        set(stripe.Charge.PaymentMethodDetails.__annotations__) - {"card", "type"}
    ),
}


def problems(cls: type, value: Any, path: str) -> list[str]:
    """Return what of the class's annotations the JSON does not have."""
    if not isinstance(value, dict):
        return [f"{path}: {type(value).__name__} instead of an object"]
    found = []
    for name, annotation in resolved(cls).items():
        here = f"{path}.{name}"
        if name in LEFT_OUT.get(cls, set()):
            continue
        if name not in value:
            found.append(f"{here}: absent")
        else:
            found += mismatches(annotation, value[name], here)
    found += [
        f"{path}.{name}: not declared" for name in set(value) - set(resolved(cls))
    ]
    return found


class Names(dict[str, Any]):
    """The classes that annotations name but the SDK imports for type checkers only."""

    def __missing__(self, name: str) -> Any:
        return getattr(stripe, name, Any)


@cache
def resolved(cls: type) -> dict[str, Any]:
    """Return the annotations of a class with its forward references resolved."""
    module = vars(sys.modules[cls.__module__])
    names = Names({**vars(builtins), **vars(typing), **module})
    hints = typing.get_type_hints(cls, globalns=module, localns=names)
    return {
        name: hint
        for name, hint in hints.items()
        if name in cls.__annotations__ and get_origin(hint) is not typing.ClassVar
    }


def mismatches(annotation: Any, value: Any, path: str) -> list[str]:
    """Return why the value is not of the annotated type."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        options = [mismatches(one, value, path) for one in get_args(annotation)]
        return [] if [] in options else min(options, key=len)
    if origin is list:
        item = get_args(annotation)[0]
        if not isinstance(value, list):
            return [f"{path}: not a list"]
        return [
            problem
            for number, one in enumerate(value)
            for problem in mismatches(item, one, f"{path}[{number}]")
        ]
    if origin is typing.Literal:
        return [] if value in get_args(annotation) else [f"{path}: {value!r}"]
    if origin is stripe.ListObject:
        return list_problems(get_args(annotation)[0], value, path)
    return plain_mismatches(origin or annotation, value, path)


def list_problems(item: Any, value: Any, path: str) -> list[str]:
    if not isinstance(value, dict) or value.get("object") != "list":
        return [f"{path}: not a list object"]
    found = [
        f"{path}.{name}: absent"
        for name in ("data", "has_more", "url")
        if name not in value
    ]
    for number, one in enumerate(value.get("data", [])):
        found += mismatches(item, one, f"{path}.data[{number}]")
    return found


def plain_mismatches(expected: Any, value: Any, path: str) -> list[str]:
    if expected is Any or expected is dict or isinstance(expected, typing.TypeVar):
        return []
    if expected is Decimal:
        expected = str
    if expected in (str, int, bool, type(None), float):
        exact = type(value) is expected
        return [] if exact else [f"{path}: {value!r} is not {expected.__name__}"]
    if isinstance(expected, type) and issubclass(expected, stripe.StripeObject):
        if "__annotations__" not in vars(expected):
            return [] if isinstance(value, dict) else [f"{path}: not an object"]
        return problems(expected, value, path)
    return [f"{path}: cannot check {expected!r}"]


@pytest.fixture
def objects(api, stripe_sandbox) -> dict[str, tuple[type, Any]]:
    """One of each resource, with as much in it as there can be."""
    api.v1.webhook_endpoints.create(
        {"url": "http://127.0.0.1:9/", "enabled_events": ["none"]}
    )
    payer = story.customer(api, metadata={"tenant_pubkey": "ab"}, address={"city": "A"})
    basic, growth = story.price(api, lookup_key="basic"), story.price(api, 2_500)
    one_time = story.price(api, recurring=None)
    subscribed = story.subscription(api, basic, to=payer, metadata={"a": "b"})
    draft = api.v1.invoices.retrieve(subscribed.latest_invoice)
    finalized = story.first_invoice(api, subscribed)
    paid = api.v1.invoices.pay(finalized.id, {"paid_out_of_band": True})
    stripe_sandbox.advance(3 * story.DAY)
    changed = api.v1.subscriptions.update(
        subscribed.id,
        {"items": [{"id": subscribed.items.data[0].id, "price": growth.id}]},
    )
    items = api.v1.invoice_items.list({"customer": payer.id})
    canceled = api.v1.subscriptions.cancel(
        subscribed.id, {"prorate": True, "invoice_now": True}
    )
    final = api.v1.invoices.finalize_invoice(canceled.latest_invoice)
    manual = api.v1.invoice_items.create(
        {"customer": payer.id, "amount": 5, "currency": "usd"}
    )
    foreign = api.v1.invoices.create(
        {"customer": payer.id, "pending_invoice_items_behavior": "include"}
    )
    void = api.v1.invoices.void_invoice(
        story.first_invoice(api, story.subscription(api, growth)).id
    )
    balances = api.v1.customers.balance_transactions.list(payer.id)
    return {
        "customer": (stripe.Customer, payer),
        "product": (stripe.Product, api.v1.products.retrieve(basic.product)),
        "recurring price": (stripe.Price, basic),
        "one-time price": (stripe.Price, one_time),
        "subscription": (stripe.Subscription, subscribed),
        "changed subscription": (stripe.Subscription, changed),
        "canceled subscription": (stripe.Subscription, canceled),
        "subscription item": (stripe.SubscriptionItem, subscribed.items.data[0]),
        "draft": (stripe.Invoice, draft),
        "open invoice": (stripe.Invoice, finalized),
        "paid invoice": (stripe.Invoice, paid),
        "final invoice": (stripe.Invoice, final),
        "void invoice": (stripe.Invoice, void),
        "one-off invoice": (stripe.Invoice, foreign),
        "line": (stripe.InvoiceLineItem, final.lines.data[0]),
        "manual line": (stripe.InvoiceLineItem, foreign.lines.data[0]),
        "credit": (stripe.InvoiceItem, items.data[-1]),
        "manual item": (stripe.InvoiceItem, manual),
        "balance transaction": (stripe.CustomerBalanceTransaction, balances.data[0]),
        "event": (stripe.Event, api.v1.events.list().data[0]),
        "endpoint": (stripe.WebhookEndpoint, api.v1.webhook_endpoints.list().data[0]),
    }


@pytest.fixture
def paid_with_cards(api) -> dict[str, tuple[type, Any]]:
    """One of each that a payment by card leaves, in each of its states."""
    found: dict[str, tuple[type, Any]] = {}
    everything = ["payments.data.payment.payment_intent.latest_charge"]
    for card in (
        "pm_card_visa",
        "pm_card_chargeCustomerFail",
        "pm_card_authenticationRequired",
    ):
        payer = story.customer(api)
        method = story.card(api, payer.id, card)
        subscribed = story.automatic(api, to=payer)
        invoice = api.v1.invoices.retrieve(
            subscribed.latest_invoice,
            {"expand": [*everything, "confirmation_secret"]},
        )
        payment = invoice.payments.data[0]
        intent = payment.payment.payment_intent
        found |= {
            f"{card}, method": (stripe.PaymentMethod, method),
            f"{card}, subscription": (stripe.Subscription, subscribed),
            f"{card}, invoice": (stripe.Invoice, invoice),
            f"{card}, payment": (stripe.InvoicePayment, payment),
            f"{card}, intent": (stripe.PaymentIntent, intent),
        }
        if intent.latest_charge:
            found[f"{card}, charge"] = (stripe.Charge, intent.latest_charge)
    void = api.v1.invoices.void_invoice(invoice.id, {"expand": everything})
    payment = void.payments.data[0]
    return {
        **found,
        "canceled payment": (stripe.InvoicePayment, payment),
        "canceled intent": (stripe.PaymentIntent, payment.payment.payment_intent),
        "detached": (stripe.PaymentMethod, api.v1.payment_methods.detach(method.id)),
    }


@pytest.mark.parametrize("made", ["objects", "paid_with_cards"])
def test_every_declared_field_is_sent_with_its_type(request, made):
    found = {
        name: problems(cls, sent.to_dict(for_json=True), name)
        for name, (cls, sent) in request.getfixturevalue(made).items()
    }

    assert {name: wrong for name, wrong in found.items() if wrong} == {}


ACCEPTED = [
    (customers.resource, "POST", "v1/customers", "CustomerCreateParams"),
    (customers.resource, "POST", "v1/customers/{}", "CustomerUpdateParams"),
    (customers.resource, "GET", "v1/customers", "CustomerListParams"),
    (products.resource, "POST", "v1/products", "ProductCreateParams"),
    (products.resource, "POST", "v1/products/{}", "ProductUpdateParams"),
    (products.resource, "GET", "v1/products", "ProductListParams"),
    (prices.resource, "POST", "v1/prices", "PriceCreateParams"),
    (prices.resource, "POST", "v1/prices/{}", "PriceUpdateParams"),
    (prices.resource, "GET", "v1/prices", "PriceListParams"),
    (subscriptions.resource, "POST", "v1/subscriptions", "SubscriptionCreateParams"),
    (subscriptions.resource, "POST", "v1/subscriptions/{}", "SubscriptionUpdateParams"),
    (subscriptions.resource, "GET", "v1/subscriptions", "SubscriptionListParams"),
    (
        subscriptions.resource,
        "DELETE",
        "v1/subscriptions/{}",
        "SubscriptionCancelParams",
    ),
    (invoices.resource, "POST", "v1/invoices", "InvoiceCreateParams"),
    (invoices.resource, "POST", "v1/invoices/{}", "InvoiceUpdateParams"),
    (invoices.resource, "GET", "v1/invoices", "InvoiceListParams"),
    (invoices.resource, "POST", "v1/invoices/{}/pay", "InvoicePayParams"),
    (invoice_items.resource, "POST", "v1/invoiceitems", "InvoiceItemCreateParams"),
    (invoice_items.resource, "GET", "v1/invoiceitems", "InvoiceItemListParams"),
    (
        invoice_payments.resource,
        "GET",
        "v1/invoice_payments",
        "InvoicePaymentListParams",
    ),
    (
        payment_intents.resource,
        "GET",
        "v1/payment_intents",
        "PaymentIntentListParams",
    ),
    (
        payment_intents.resource,
        "POST",
        "v1/payment_intents/{}/confirm",
        "PaymentIntentConfirmParams",
    ),
    (
        payment_intents.resource,
        "POST",
        "v1/payment_intents/{}/cancel",
        "PaymentIntentCancelParams",
    ),
    (
        payment_methods.resource,
        "POST",
        "v1/payment_methods",
        "PaymentMethodCreateParams",
    ),
    (
        payment_methods.resource,
        "POST",
        "v1/payment_methods/{}",
        "PaymentMethodUpdateParams",
    ),
    (payment_methods.resource, "GET", "v1/payment_methods", "PaymentMethodListParams"),
    (
        payment_methods.resource,
        "POST",
        "v1/payment_methods/{}/attach",
        "PaymentMethodAttachParams",
    ),
    (
        payment_methods.resource,
        "GET",
        "v1/customers/{}/payment_methods",
        "CustomerPaymentMethodListParams",
    ),
    (events.resource, "GET", "v1/events", "EventListParams"),
    (
        webhook_endpoints.resource,
        "POST",
        "v1/webhook_endpoints",
        "WebhookEndpointCreateParams",
    ),
]


@pytest.mark.parametrize(("resource", "method", "path", "params"), ACCEPTED)
def test_no_parameter_is_accepted_that_stripe_does_not_know(
    resource, method, path, params
):
    shape = next(
        route.shape
        for route in resource.routes
        if route.method == method and "/".join(route.segments) == path
    )

    assert set(shape.fields) <= set(getattr(stripe.params, params).__annotations__)


def test_fields_that_need_expand_come_when_they_are_expanded(api):
    payer = story.customer(api)
    subscribed = story.subscription(api, to=payer)
    invoice = story.first_invoice(api, subscribed)
    api.v1.invoices.pay(invoice.id, {"paid_out_of_band": True})

    plain = api.v1.invoices.retrieve(invoice.id).to_dict()
    expanded = api.v1.invoices.retrieve(
        invoice.id, {"expand": ["amount_paid_off_stripe", "payments"]}
    )
    secret = api.v1.invoices.retrieve(invoice.id, {"expand": ["confirmation_secret"]})
    whole = api.v1.customers.retrieve(payer.id, {"expand": ["subscriptions"]})

    assert not {"amount_paid_off_stripe", "payments"} & set(plain)
    assert expanded.amount_paid_off_stripe == invoice.amount_due
    assert [one.status for one in expanded.payments.data] == ["canceled"]
    assert secret.confirmation_secret.type == "payment_intent"
    assert [one.id for one in whole.subscriptions.data] == [subscribed.id]
