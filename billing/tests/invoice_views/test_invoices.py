"""Invoices with their collection details, and how long they are cached."""

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from billing.clients.stripe.client import Stripe
from billing.clients.stripe.errors import StripeUnavailable
from billing.exceptions import UnknownInvoice
from billing.models import (
    CardAttempt,
    Credit,
    InvoiceCollection,
    Settlement,
    StripeWrite,
)
from billing.services.collection.collect import collect_invoice
from billing.services.credits.posting import post_credits, record_credit
from billing.services.invoice_views.invoices import (
    get_invoice,
    has_invoice,
    list_invoices,
)
from billing.services.invoices.cache import FRESH_FOR, get_or_fetch, invalidate
from billing.services.invoices.payment_link import verify_token
from billing.services.invoices.records import record_and_enqueue
from billing.services.payment_page.bolt11 import get_or_issue_bolt11
from billing.tests.factories import InvoiceCollectionFactory
from lightning.models import LightningInvoice
from lightning.services.invoice_status import check_invoice
from lightning.services.invoices import PaymentRequest
from lightning.services.wallets import connect_wallet
from lightning.tests.factories import make_invoice
from lightning.tests.support.payments import start_payment
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db


def create_customer(sandbox) -> str:
    params = {"email": "ann@example.com"}
    return str(sandbox.client().v1.customers.create(params).id)


def add_invoice(sandbox, customer, lines=1, amount=300):
    """Create an invoice in Stripe that belongs to no subscription."""
    api = sandbox.client().v1
    invoice = api.invoices.create({"customer": customer, "auto_advance": False})
    for number in range(lines):
        api.invoice_items.create(
            {
                "customer": customer,
                "invoice": invoice.id,
                "currency": "usd",
                "amount": amount,
                "description": f"Extra {number}",
            }
        )
    return invoice


def invoice_request_count(sandbox) -> int:
    return len(sandbox.requests("GET", "/v1/invoices"))


def make_stripe_unavailable(sandbox):
    sandbox.fault("status", method=None, status=503, times=None)


# --- content


def test_list_has_lines_and_collection_details(invoice):
    (details,) = list_invoices(invoice.tenant)

    assert (details.id, details.number) == (invoice.pk, invoice.number)
    assert details.tenant_pubkey == invoice.tenant_id
    assert (details.status, details.currency, details.total_cents) == (
        "open",
        "usd",
        500,
    )
    assert details.amount_due_cents == details.amount_remaining_cents == 500
    assert details.amount_paid_cents == 0
    assert details.hosted_url == invoice.hosted_invoice_url
    assert (details.created_at, details.due_at) == (invoice.created_at, invoice.due_at)
    assert details.finalized_at == invoice.finalized_at
    assert details.paid_at is None
    assert details.period_start == invoice.period_start
    assert details.period_end == invoice.period_end
    (line,) = details.lines
    assert "1 × Nostr relay, Basic" in line.description
    assert (line.plan, line.amount_cents, line.quantity) == ("Basic", 500, 1)
    assert line.period_end == details.period_end
    collection = details.collection
    assert collection
    assert (collection.state, collection.paid_by) == ("manual", "")
    assert collection.waiting is None
    assert collection.suspend_at == invoice.suspend_at
    assert invoice.finalized_at
    assert collection.next_try_at == invoice.finalized_at + timedelta(days=1)
    assert collection.lightning is None
    assert collection.payment_url
    assert verify_token(collection.payment_url.rsplit("/", 1)[1]) == invoice.pk
    assert collection.payment_url not in repr(details)


def test_single_invoice_matches_the_list(invoice):
    (listed,) = list_invoices(invoice.tenant)
    details = get_invoice(invoice.pk)

    assert details.lines == listed.lines
    assert details.collection and listed.collection
    assert details.collection.suspend_at == listed.collection.suspend_at


def test_list_includes_drafts(subscriber):
    (details,) = list_invoices(subscriber)

    assert (details.status, details.number) == ("draft", "")
    assert details.collection and details.collection.payment_url is None


def test_list_includes_uncollected_invoices_newest_first(invoice, sandbox, clock):
    clock.move(hours=1)
    other = add_invoice(sandbox, invoice.stripe_customer_id)

    listed = list_invoices(invoice.tenant)

    assert [details.id for details in listed] == [other.id, invoice.pk]
    assert listed[0].collection is None
    assert [line.description for line in listed[0].lines] == ["Extra 0"]
    assert [line.plan for line in listed[0].lines] == [""]
    assert get_invoice(other.id).tenant_pubkey == invoice.tenant_id


def test_tenant_without_customer_has_no_invoices(sandbox):
    assert list_invoices(TenantFactory()) == []
    assert sandbox.requests() == []


def test_paid_invoice_names_payment_method(invoice, sandbox):
    sandbox.client().v1.payment_methods.attach(
        "pm_card_visa", {"customer": invoice.stripe_customer_id}
    )
    InvoiceCollection.objects.update(next_action="card")
    collect_invoice(invoice_id=invoice.pk)

    details = get_invoice(invoice.pk)

    assert (details.status, details.amount_paid_cents) == ("paid", 500)
    assert details.paid_at and abs(details.paid_at - timezone.now()) < timedelta(
        minutes=1
    )
    collection = details.collection
    assert collection and (collection.state, collection.paid_by) == ("closed", "card")
    # The page is the receipt now.
    assert collection.payment_url
    assert verify_token(collection.payment_url.rsplit("/", 1)[1]) == invoice.pk
    assert collection.next_try_at is None


def test_final_invoice_without_a_receipt_has_no_link(invoice):
    InvoiceCollection.objects.update(
        stripe_status="paid", total_cents=-200, amount_remaining_cents=0
    )

    details = get_invoice(invoice.pk)

    assert details.collection and details.collection.payment_url is None


def test_list_has_ten_lines_and_single_invoice_has_all(invoice, sandbox):
    long = add_invoice(sandbox, invoice.stripe_customer_id, lines=12)

    listed = next(
        details for details in list_invoices(invoice.tenant) if details.id == long.id
    )
    details = get_invoice(long.id)

    assert len(listed.lines) == 10
    assert listed.has_more_lines
    assert len(details.lines) == 12
    assert not details.has_more_lines
    assert len(get_invoice(long.id).lines) == 12


# --- unknown invoices


@pytest.mark.parametrize(
    "invoice_id",
    [
        "",
        "in_",
        "cus_123",
        "in_1/../../customers",
        "in_1?x=1",
        "in_\0",
        "in_" + "a" * 999,
    ],
)
def test_malformed_id_never_reaches_stripe(sandbox, invoice_id):
    with pytest.raises(UnknownInvoice):
        get_invoice(invoice_id)

    assert sandbox.requests() == []


def test_invoice_missing_in_stripe_is_unknown(sandbox):
    with pytest.raises(UnknownInvoice):
        get_invoice("in_nothing")


def test_invoice_of_customer_without_tenant_is_unknown(sandbox):
    foreign = add_invoice(sandbox, create_customer(sandbox))

    for _ in range(2):
        with pytest.raises(UnknownInvoice):
            get_invoice(foreign.id)


def test_deleted_customer_still_has_its_invoices(invoice, sandbox):
    sandbox.client().v1.customers.delete(invoice.stripe_customer_id)

    (details,) = list_invoices(invoice.tenant)

    assert details.id == invoice.pk


def test_invoice_keeps_its_tenant_when_customer_is_cleared(invoice, sandbox):
    type(invoice.tenant).objects.update(stripe_customer_id=None)

    assert get_invoice(invoice.pk).tenant_pubkey == invoice.tenant_id


# --- tenants


def test_moved_customer_leaves_invoices_with_earlier_tenant(invoice, sandbox):
    """Support may move a customer to another tenant of the same owner."""
    successor = TenantFactory(stripe_customer_id="cus_later")
    owner = invoice.tenant
    type(successor).objects.filter(pk=owner.pk).update(stripe_customer_id=None)
    successor.stripe_customer_id = owner.stripe_customer_id
    successor.save(update_fields=["stripe_customer_id"])
    extra = add_invoice(sandbox, successor.stripe_customer_id)

    assert [details.id for details in list_invoices(successor)] == [extra.id]
    assert get_invoice(invoice.pk).tenant_pubkey == owner.pk


def test_has_invoice_requests_only_the_tenants_own_customer(invoice, sandbox):
    without_customer = TenantFactory()
    other = TenantFactory(stripe_customer_id="cus_other")

    assert has_invoice(invoice.tenant_id, invoice.pk)
    before = len(sandbox.requests())
    assert not has_invoice(without_customer.pk, invoice.pk)
    assert not has_invoice(without_customer.pk, "in_guess")
    assert len(sandbox.requests()) == before
    assert not has_invoice(other.pk, invoice.pk)
    assert sandbox.requests()[before:] == sandbox.requests("GET", "/v1/invoices")[-1:]


# --- pending payments


def test_pending_wallet_payment_is_waiting(invoice, alice, own_wallet, rates):
    connect_wallet(pubkey=invoice.tenant_id, nwc_url=alice.url)
    start_payment(PaymentRequest(invoice.tenant_id, invoice.pk, 500, "usd", "Invoice"))

    (details,) = list_invoices(invoice.tenant)

    collection = details.collection
    assert collection and collection.waiting
    assert collection.waiting.reason == (
        "A payment by the tenant's wallet is in progress."
    )
    assert collection.waiting.until == LightningInvoice.objects.get().final_at


def create_card_attempt(invoice):
    CardAttempt.objects.create(
        collection=invoice,
        payment_method="pm_1",
        amount_cents=500,
        idempotency_key="key",
    )


def create_pending_reduction(invoice):
    StripeWrite.objects.create(
        tenant=invoice.tenant,
        kind=StripeWrite.Kind.CREATE_CREDIT_NOTE,
        subject=invoice.pk,
        generation=1,
        idempotency_key="key",
        params={},
    )


def create_unbooked_payment(invoice):
    paid = make_invoice(
        invoice.tenant,
        "ab" * 32,
        stripe_invoice_id=invoice.pk,
        state="settled",
        settled_at=timezone.now(),
    )
    Settlement.objects.create(invoice=paid, collection=invoice, state="marking")


@pytest.mark.parametrize(
    ("create", "reason"),
    [
        (create_card_attempt, "A card payment is in progress."),
        (create_pending_reduction, "The amount is about to be reduced."),
        (create_unbooked_payment, "A payment has arrived and is being booked."),
    ],
)
def test_pending_charge_reduction_or_booking_is_waiting(invoice, create, reason):
    create(invoice)

    collection = get_invoice(invoice.pk).collection

    assert collection and collection.waiting
    assert collection.waiting.reason == reason
    assert collection.waiting.until is None


def test_presented_bolt11_is_not_waiting(invoice, own_wallet, rates):
    get_or_issue_bolt11(invoice_id=invoice.pk)

    collection = get_invoice(invoice.pk).collection

    assert collection and collection.waiting is None


@pytest.mark.parametrize("count", [1, 100])
def test_list_makes_constant_number_of_queries(
    sandbox, prices, count, django_assert_num_queries
):
    tenant = TenantFactory(stripe_customer_id=create_customer(sandbox))
    for _ in range(count):
        created = add_invoice(sandbox, tenant.stripe_customer_id)
        row = InvoiceCollectionFactory(stripe_invoice_id=created.id, tenant=tenant)
        create_unbooked_payment(row)

    with django_assert_num_queries(9):
        listed = list_invoices(tenant)

    assert len(listed) == count
    assert all(details.collection and details.collection.waiting for details in listed)


# --- cache


def test_list_is_cached_for_30_seconds(invoice, sandbox):
    with time_machine.travel(timezone.now(), tick=False) as traveller:
        first = list_invoices(invoice.tenant)
        before = invoice_request_count(sandbox)
        again = list_invoices(invoice.tenant)
        assert invoice_request_count(sandbox) == before
        assert again == first
        traveller.shift(FRESH_FOR)
        later = list_invoices(invoice.tenant)

    assert invoice_request_count(sandbox) == before + 1
    assert later[0].fetched_at == first[0].fetched_at + FRESH_FOR


def test_cache_entry_from_a_clock_ahead_is_stale(invoice, sandbox):
    with time_machine.travel(timezone.now() + timedelta(minutes=50)):
        list_invoices(invoice.tenant)
    before = invoice_request_count(sandbox)

    list_invoices(invoice.tenant)

    assert invoice_request_count(sandbox) == before + 1


def test_collection_details_are_not_cached(invoice):
    get_invoice(invoice.pk)
    InvoiceCollection.objects.update(state="pending")

    collection = get_invoice(invoice.pk).collection

    assert collection and collection.state == "pending"


def test_payment_invalidates_cache(
    invoice, sandbox, wallets, alice, rates, django_capture_on_commit_callbacks
):
    list_invoices(invoice.tenant)
    get_invoice(invoice.pk)

    wallets.ledger.pay("alice", get_or_issue_bolt11(invoice_id=invoice.pk).bolt11)
    with django_capture_on_commit_callbacks(execute=True):
        check_invoice(invoice_id=LightningInvoice.objects.get().pk)
        collect_invoice(invoice_id=invoice.pk)

    (listed,) = list_invoices(invoice.tenant)
    assert (listed.status, get_invoice(invoice.pk).status) == ("paid", "paid")
    assert listed.collection and listed.collection.paid_by == "lightning"


def test_change_of_uncollected_invoice_invalidates_cache(
    invoice, sandbox, django_capture_on_commit_callbacks
):
    extra = add_invoice(sandbox, invoice.stripe_customer_id)
    assert get_invoice(extra.id).status == "draft"
    sandbox.client().v1.invoices.finalize_invoice(extra.id)

    with django_capture_on_commit_callbacks(execute=True):
        record_and_enqueue(Stripe().invoices.get(extra.id), invoice.tenant)

    assert get_invoice(extra.id).status == "open"


def test_response_older_than_a_change_is_not_fresh(sandbox, invoice):
    """A webhook reports a change while the response is on its way."""

    def fetch():
        invoices = Stripe().invoices.list(customer=invoice.stripe_customer_id)
        invalidate(invoice.stripe_customer_id, invoice.pk)
        return invoices

    get_or_fetch(invoice.stripe_customer_id, fetch)
    before = invoice_request_count(sandbox)
    list_invoices(invoice.tenant)

    assert invoice_request_count(sandbox) == before + 1


def test_cached_invoice_equals_the_fetched_one(invoice):
    def fetch():
        return [Stripe().invoices.get(invoice.pk)]

    fetched = get_or_fetch(invoice.pk, fetch)

    assert get_or_fetch(invoice.pk, fetch) == fetched
    assert fetched.invoices[0].intents is not None


def test_rereading_unchanged_invoice_keeps_cache(
    invoice, sandbox, django_capture_on_commit_callbacks
):
    list_invoices(invoice.tenant)
    with django_capture_on_commit_callbacks(execute=True):
        record_and_enqueue(
            Stripe().invoices.get(invoice.pk), invoice.tenant, since=invoice.revision
        )
    before = invoice_request_count(sandbox)

    list_invoices(invoice.tenant)

    assert invoice_request_count(sandbox) == before


def test_stale_entry_is_used_while_stripe_is_unavailable(invoice, sandbox):
    first = list_invoices(invoice.tenant)
    details = get_invoice(invoice.pk)
    make_stripe_unavailable(sandbox)

    with time_machine.travel(timezone.now() + timedelta(minutes=10)):
        again = list_invoices(invoice.tenant)
        assert get_invoice(invoice.pk).fetched_at == details.fetched_at

    assert again[0].fetched_at == first[0].fetched_at
    assert again[0].lines == first[0].lines


def test_reading_raises_when_stripe_is_unavailable_and_nothing_is_cached(
    invoice, sandbox
):
    make_stripe_unavailable(sandbox)

    with pytest.raises(StripeUnavailable):
        list_invoices(invoice.tenant)
    with pytest.raises(StripeUnavailable):
        get_invoice(invoice.pk)


def test_every_read_requests_stripe_without_redis(invoice, sandbox, no_redis, caplog):
    before = invoice_request_count(sandbox)

    for _ in range(2):
        (details,) = list_invoices(invoice.tenant)
        assert details.id == invoice.pk
        invalidate(invoice.stripe_customer_id, invoice.pk)

    assert invoice_request_count(sandbox) == before + 2
    assert "cache_unavailable" in caplog.text


def test_cache_entry_with_another_schema_is_ignored(invoice, sandbox, monkeypatch):
    list_invoices(invoice.tenant)
    before = invoice_request_count(sandbox)
    monkeypatch.setattr("billing.services.invoices.cache._SCHEMA_HASH", "another")

    list_invoices(invoice.tenant)

    assert invoice_request_count(sandbox) == before + 1


def test_credit_invalidates_cache(invoice, sandbox, django_capture_on_commit_callbacks):
    list_invoices(invoice.tenant)
    record_credit(
        tenant_id=invoice.tenant_id,
        reason=Credit.Reason.SURPLUS,
        source="ab",
        currency="usd",
        amount_cents=200,
    )

    with django_capture_on_commit_callbacks(execute=True):
        post_credits(tenant_id=invoice.tenant_id)

    (details,) = list_invoices(invoice.tenant)
    assert details.amount_remaining_cents == 300
