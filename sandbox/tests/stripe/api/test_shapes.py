"""Objects of every type, with as many fields as possible, match Stripe's SDKs."""

from typing import Any

import pytest
import stripe

from sandbox.stripe.objects.discounts import discounts
from sandbox.stripe.objects.registry import REGISTRY
from sandbox.tests.support.stripe import builders, types
from sandbox.tests.support.stripe.conformance import stored_problems
from sandbox.tests.support.stripe.types import problems


@pytest.fixture
def objects(api, stripe_sandbox) -> dict[str, tuple[type, Any]]:
    """Objects of every type, with as many fields as possible."""
    api.v1.webhook_endpoints.create(
        {"url": "http://127.0.0.1:9/", "enabled_events": ["topup.created"]}
    )
    payer = builders.customer(api, metadata={"tenant_pubkey": "ab"})
    basic, growth = builders.price(api, lookup_key="basic"), builders.price(api, 2_500)
    one_time = builders.price(api, recurring=None)
    subscription = builders.subscription(api, basic, to=payer, metadata={"a": "b"})
    draft = api.v1.invoices.retrieve(subscription.latest_invoice)
    finalized = builders.first_invoice(api, subscription)
    paid = api.v1.invoices.pay(finalized.id, {"paid_out_of_band": True})
    stripe_sandbox.advance(3 * builders.DAY)
    changed = api.v1.subscriptions.update(
        subscription.id,
        {"items": [{"id": subscription.items.data[0].id, "price": growth.id}]},
    )
    items = api.v1.invoice_items.list({"customer": payer.id})
    canceled = api.v1.subscriptions.cancel(
        subscription.id, {"prorate": True, "invoice_now": True}
    )
    final = api.v1.invoices.finalize_invoice(canceled.latest_invoice)
    manual = api.v1.invoice_items.create(
        {"customer": payer.id, "amount": 5, "currency": "usd"}
    )
    one_off = api.v1.invoices.create(
        {"customer": payer.id, "pending_invoice_items_behavior": "include"}
    )
    void = api.v1.invoices.void_invoice(
        builders.first_invoice(api, builders.subscription(api, growth)).id
    )
    credited = builders.first_invoice(api, builders.subscription(api, growth, to=payer))
    note = api.v1.credit_notes.create(
        {
            "invoice": credited.id,
            "amount": 2_500,
            "credit_amount": 2_500 - credited.amount_due,
        }
    )
    transactions = api.v1.customers.balance_transactions.list(payer.id)
    configuration = api.v1.billing_portal.configurations.create(
        {
            "features": {
                "payment_method_update": {"enabled": True},
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
        "subscription": (stripe.Subscription, subscription),
        "changed subscription": (stripe.Subscription, changed),
        "canceled subscription": (stripe.Subscription, canceled),
        "subscription item": (stripe.SubscriptionItem, subscription.items.data[0]),
        "draft": (stripe.Invoice, draft),
        "open invoice": (stripe.Invoice, finalized),
        "paid invoice": (stripe.Invoice, paid),
        "final invoice": (stripe.Invoice, final),
        "void invoice": (stripe.Invoice, void),
        "one-off invoice": (stripe.Invoice, one_off),
        "line": (stripe.InvoiceLineItem, final.lines.data[0]),
        "manual line": (stripe.InvoiceLineItem, one_off.lines.data[0]),
        "credit": (stripe.InvoiceItem, items.data[-1]),
        "manual item": (stripe.InvoiceItem, manual),
        "credited invoice": (stripe.Invoice, api.v1.invoices.retrieve(credited.id)),
        "credit note": (stripe.CreditNote, note),
        "credit note line": (stripe.CreditNoteLineItem, note.lines.data[0]),
        "balance transaction": (
            stripe.CustomerBalanceTransaction,
            transactions.data[0],
        ),
        "portal configuration": (stripe.billing_portal.Configuration, configuration),
        "portal session": (stripe.billing_portal.Session, session),
        "event": (stripe.Event, api.v1.events.list().data[0]),
        "endpoint": (stripe.WebhookEndpoint, api.v1.webhook_endpoints.list().data[0]),
    }


@pytest.fixture
def card_payment_objects(api) -> dict[str, tuple[type, Any]]:
    """Objects of card payments in each of their states."""
    by_name: dict[str, tuple[type, Any]] = {}
    everything = ["payments.data.payment.payment_intent.latest_charge"]
    for card in (
        "pm_card_visa",
        "pm_card_chargeCustomerFail",
        "pm_card_authenticationRequired",
    ):
        payer = builders.customer(api)
        method = builders.card(api, payer.id, card)
        subscription = builders.automatic(api, to=payer)
        invoice = api.v1.invoices.retrieve(
            subscription.latest_invoice,
            {"expand": everything},
        )
        payment = invoice.payments.data[0]
        intent = payment.payment.payment_intent
        by_name |= {
            f"{card}, method": (stripe.PaymentMethod, method),
            f"{card}, subscription": (stripe.Subscription, subscription),
            f"{card}, invoice": (stripe.Invoice, invoice),
            f"{card}, payment": (stripe.InvoicePayment, payment),
            f"{card}, intent": (stripe.PaymentIntent, intent),
        }
        if intent.latest_charge:
            by_name[f"{card}, charge"] = (stripe.Charge, intent.latest_charge)
    void = api.v1.invoices.void_invoice(invoice.id, {"expand": everything})
    payment = void.payments.data[0]
    return {
        **by_name,
        "canceled payment": (stripe.InvoicePayment, payment),
        "canceled intent": (stripe.PaymentIntent, payment.payment.payment_intent),
        "detached": (stripe.PaymentMethod, api.v1.payment_methods.detach(method.id)),
    }


@pytest.fixture
def reversal_objects(api, stripe_sandbox) -> dict[str, tuple[type, Any]]:
    """Objects of money given back and taken back, and of payments without cards."""
    stripe_sandbox.settings(out_of_band_payments="payment_record")
    charge = builders.paid_charge(api, "pm_card_createIssuerFraudRecord")
    refund = api.v1.refunds.create({"charge": charge.id, "amount": 100})
    note = api.v1.credit_notes.create(
        {
            "invoice": builders.invoice_of(api, charge).id,
            "amount": 100,
            "refunds": [{"refund": refund.id}],
        }
    )
    disputed = builders.paid_charge(api, "pm_card_createDispute")
    debits = [
        builders.paid_charge(api, "pm_usBankAccount_dispute"),
        builders.paid_charge(
            api, "pm_success_de", prices=(builders.price(api, currency="eur"),)
        ),
    ]
    outside = builders.open_invoice(api)
    api.v1.invoices.pay(outside.id, {"paid_out_of_band": True})
    stripe_sandbox.advance(5 * builders.DAY)
    payment = api.v1.invoice_payments.list({"invoice": outside.id}).data[0]
    record = api.v1.payment_records.retrieve(payment.payment.payment_record)
    warnings = api.v1.radar.early_fraud_warnings.list()
    pending = api.v1.refunds.create({"charge": debits[1].id})
    failed = api.v1.refunds.create(
        {"charge": builders.paid_charge(api, "pm_card_refundFail").id}
    )
    dispute = api.v1.disputes.list({"charge": disputed.id}).data[0]
    lost = api.v1.disputes.list({"charge": debits[0].id}).data[0]
    stripe_sandbox.advance(builders.DAY)
    return {
        "refund": (stripe.Refund, refund),
        "pending refund": (stripe.Refund, pending),
        "failed refund": (stripe.Refund, api.v1.refunds.retrieve(failed.id)),
        "linked note": (stripe.CreditNote, note),
        "dispute": (stripe.Dispute, dispute),
        "dispute of a debit": (stripe.Dispute, lost),
        "payment out of band": (stripe.InvoicePayment, payment),
        "payment record": (stripe.PaymentRecord, record),
        "fraud warning": (stripe.radar.EarlyFraudWarning, warnings.data[0]),
        **{
            f"debit from {debit.payment_method}": (stripe.Charge, debit)
            for debit in debits
        },
        **{
            f"account {debit.payment_method}": (
                stripe.PaymentMethod,
                api.v1.payment_methods.retrieve(debit.payment_method),
            )
            for debit in debits
        },
    }


@pytest.fixture
def pricing_objects(api, stripe_sandbox) -> dict[str, tuple[type, Any]]:
    """Objects of discounts and taxes."""
    payer = builders.customer(api)
    coupons = [
        builders.coupon(api, duration="repeating", duration_in_months=3, name="Half"),
        builders.coupon(api, amount_off=100, currency="usd"),
    ]
    rates = [builders.tax_rate(api, 20), builders.tax_rate(api, 5.5, inclusive=True)]
    stripe_sandbox.app.transact(
        lambda context: discounts.set_on_customer(context, payer.id, coupons[0].id)
    )
    subscription = builders.subscription(
        api,
        to=payer,
        discounts=[{"coupon": coupon.id} for coupon in coupons],
        default_tax_rates=[rate.id for rate in rates],
        expand=["discounts"],
    )
    draft = api.v1.invoices.retrieve(subscription.latest_invoice)
    invoice = builders.first_invoice(api, subscription)
    note = api.v1.credit_notes.create({"invoice": invoice.id, "amount": 100})
    item = subscription.items.data[0].id
    changed = api.v1.subscriptions.update(
        subscription.id,
        {"items": [{"id": item, "quantity": 2, "tax_rates": [rates[0].id]}]},
    )
    pending = api.v1.invoice_items.list({"customer": payer.id}).data
    objects: dict[str, tuple[type, Any]] = {
        "coupon": (stripe.Coupon, coupons[0]),
        "coupon of an amount": (stripe.Coupon, coupons[1]),
        "tax rate": (stripe.TaxRate, rates[0]),
        "customer": (stripe.Customer, api.v1.customers.retrieve(payer.id)),
        "subscription": (stripe.Subscription, subscription),
        "changed subscription": (stripe.Subscription, changed),
        "discount": (stripe.Discount, subscription.discounts[0]),
        "draft": (stripe.Invoice, draft),
        "invoice": (stripe.Invoice, invoice),
        "line": (stripe.InvoiceLineItem, invoice.lines.data[0]),
        "note": (stripe.CreditNote, note),
        **{f"item {item.amount}": (stripe.InvoiceItem, item) for item in pending},
    }
    deleted = api.v1.subscriptions.delete_discount(subscription.id)
    return {**objects, "deleted discount": (stripe.Discount, deleted)}


FIXTURES = ["objects", "card_payment_objects", "reversal_objects", "pricing_objects"]


@pytest.mark.parametrize("fixture", FIXTURES)
def test_required_fields_are_present_and_no_optional_one_is_null(request, fixture):
    differences = {
        name: problems(cls, instance.to_dict(for_json=True), name)
        for name, (cls, instance) in request.getfixturevalue(fixture).items()
    }

    assert {
        name: problem_list for name, problem_list in differences.items() if problem_list
    } == {}


def test_every_stored_object_and_event_matches(
    objects, card_payment_objects, reversal_objects, pricing_objects, stripe_sandbox
):
    stripe_sandbox.advance(70 * builders.DAY)

    sent = set(stripe_sandbox.app.store.counts()) & types.resources().keys()
    # The account itself and previews of invoices are not stored.
    assert sent | {"account", "invoice_preview"} == set(REGISTRY.by_name)
    assert stored_problems(stripe_sandbox.app) == []


def test_expandable_fields_are_present_when_expanded_only(api):
    payer = builders.customer(api)
    subscription = builders.subscription(api, to=payer)
    invoice = builders.first_invoice(api, subscription)
    api.v1.invoices.pay(invoice.id, {"paid_out_of_band": True})

    plain = api.v1.invoices.retrieve(invoice.id).to_dict()
    expanded = api.v1.invoices.retrieve(
        invoice.id, {"expand": ["amount_paid_off_stripe", "payments"]}
    )

    assert not {"amount_paid_off_stripe", "payments"} & set(plain)
    assert expanded.amount_paid_off_stripe == invoice.amount_due
    assert [payment.status for payment in expanded.payments.data] == ["canceled"]
