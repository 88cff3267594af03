"""Every response has the fields that stripe-python's classes declare."""

import builtins
import sys
import types
import typing
from decimal import Decimal
from functools import cache
from operator import attrgetter
from typing import Any, Union, get_args, get_origin

import pytest
import stripe

from sandbox.stripe.objects import (
    balances,
    credit_notes,
    customers,
    events,
    invoice_items,
    invoice_preview,
    invoices,
    portal_configurations,
    portal_sessions,
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
        {"url": "http://127.0.0.1:9/", "enabled_events": ["topup.created"]}
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
    owed = story.first_invoice(api, story.subscription(api, growth, to=payer))
    note = api.v1.credit_notes.create(
        {
            "invoice": owed.id,
            "lines": [
                {
                    "type": "invoice_line_item",
                    "invoice_line_item": owed.lines.data[0].id,
                    "quantity": 1,
                }
            ],
            "credit_amount": 2_500 - owed.amount_due,
        }
    )
    transactions = api.v1.customers.balance_transactions.list(payer.id)
    configuration = api.v1.billing_portal.configurations.create(
        {
            "features": {
                "payment_method_update": {"enabled": True},
                "subscription_update": {
                    "enabled": True,
                    "default_allowed_updates": ["price"],
                    "products": [{"product": basic.product, "prices": [basic.id]}],
                },
            }
        }
    )
    session = api.v1.billing_portal.sessions.create(
        {
            "customer": payer.id,
            "configuration": configuration.id,
            "flow_data": {"type": "payment_method_update"},
        }
    )
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
        "credited invoice": (stripe.Invoice, api.v1.invoices.retrieve(owed.id)),
        "preview of an invoice": (
            stripe.Invoice,
            api.v1.invoices.create_preview({"customer": payer.id}),
        ),
        "credit note": (stripe.CreditNote, note),
        "credit note line": (stripe.CreditNoteLineItem, note.lines.data[0]),
        "credit note's preview": (
            stripe.CreditNote,
            api.v1.credit_notes.preview(
                {"invoice": paid.id, "amount": 1, "out_of_band_amount": 1}
            ),
        ),
        "balance transaction": (
            stripe.CustomerBalanceTransaction,
            transactions.data[0],
        ),
        "portal configuration": (stripe.billing_portal.Configuration, configuration),
        "portal session": (stripe.billing_portal.Session, session),
        "event": (stripe.Event, api.v1.events.list().data[0]),
        "endpoint": (stripe.WebhookEndpoint, api.v1.webhook_endpoints.list().data[0]),
    }


def test_every_declared_field_is_sent_with_its_type(objects):
    found = {
        name: problems(cls, sent.to_dict(for_json=True), name)
        for name, (cls, sent) in objects.items()
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
    (invoices.resource, "POST", "v1/invoices/{}/send", "InvoiceSendInvoiceParams"),
    (
        invoice_preview.resource,
        "POST",
        "v1/invoices/create_preview",
        "InvoiceCreatePreviewParams",
    ),
    (invoice_items.resource, "POST", "v1/invoiceitems", "InvoiceItemCreateParams"),
    (invoice_items.resource, "GET", "v1/invoiceitems", "InvoiceItemListParams"),
    (credit_notes.resource, "POST", "v1/credit_notes", "CreditNoteCreateParams"),
    (credit_notes.resource, "POST", "v1/credit_notes/{}", "CreditNoteUpdateParams"),
    (credit_notes.resource, "GET", "v1/credit_notes", "CreditNoteListParams"),
    (
        credit_notes.resource,
        "GET",
        "v1/credit_notes/preview",
        "CreditNotePreviewParams",
    ),
    (
        credit_notes.resource,
        "GET",
        "v1/credit_notes/preview/lines",
        "CreditNotePreviewLinesListParams",
    ),
    (
        balances.resource,
        "POST",
        "v1/customers/{}/balance_transactions",
        "CustomerBalanceTransactionCreateParams",
    ),
    (
        portal_configurations.resource,
        "POST",
        "v1/billing_portal/configurations",
        "billing_portal.ConfigurationCreateParams",
    ),
    (
        portal_configurations.resource,
        "POST",
        "v1/billing_portal/configurations/{}",
        "billing_portal.ConfigurationUpdateParams",
    ),
    (
        portal_configurations.resource,
        "GET",
        "v1/billing_portal/configurations",
        "billing_portal.ConfigurationListParams",
    ),
    (
        portal_sessions.resource,
        "POST",
        "v1/billing_portal/sessions",
        "billing_portal.SessionCreateParams",
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

    declared = attrgetter(params)(stripe.params).__annotations__
    assert set(shape.fields) <= set(declared)


def test_fields_that_need_expand_come_when_they_are_expanded(api):
    payer = story.customer(api)
    subscribed = story.subscription(api, to=payer)
    invoice = story.first_invoice(api, subscribed)
    api.v1.invoices.pay(invoice.id, {"paid_out_of_band": True})

    plain = api.v1.invoices.retrieve(invoice.id).to_dict()
    expanded = api.v1.invoices.retrieve(
        invoice.id, {"expand": ["amount_paid_off_stripe", "payments"]}
    )
    whole = api.v1.customers.retrieve(payer.id, {"expand": ["subscriptions"]})

    assert not {"amount_paid_off_stripe", "payments"} & set(plain)
    assert expanded.amount_paid_off_stripe == invoice.amount_due
    assert expanded.payments.data == []
    assert [one.id for one in whole.subscriptions.data] == [subscribed.id]
