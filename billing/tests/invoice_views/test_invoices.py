"""What people read of their invoices."""

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from billing.clients.stripe.client import Stripe
from billing.exceptions import StripeUnavailable, UnknownInvoice
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
from billing.services.invoices.cache import FRESH, get_or_fetch, invalidate
from billing.services.invoices.payment_link import verify_token
from billing.services.invoices.records import record_and_enqueue
from billing.services.payment_page.bolt11 import get_or_issue_bolt11
from billing.tests.factories import InvoiceCollectionFactory
from lightning.models import LightningInvoice
from lightning.services.invoice_status import check_invoice
from lightning.services.invoices import PaymentRequest
from lightning.services.payments import start_payment
from lightning.services.wallets import connect_wallet
from lightning.tests.factories import make_invoice
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db


def customer(sandbox) -> str:
    params = {"email": "ann@example.com"}
    return str(sandbox.client().v1.customers.create(params).id)


def add_invoice(sandbox, customer, lines=1, amount=300):
    """An invoice of a customer's that no subscription has made."""
    api = sandbox.client().v1
    made = api.invoices.create({"customer": customer, "auto_advance": False})
    for number in range(lines):
        api.invoice_items.create(
            {
                "customer": customer,
                "invoice": made.id,
                "currency": "usd",
                "amount": amount,
                "description": f"Extra {number}",
            }
        )
    return made


def asked(sandbox) -> int:
    return len(sandbox.requests("GET", "/v1/invoices"))


def stripe_is_away(sandbox):
    sandbox.fault("status", method=None, status=503, times=None)


# --- what is shown


def test_an_invoice_is_shown_with_its_lines_and_how_it_stands(invoice):
    (view,) = list_invoices(invoice.tenant)

    assert (view.id, view.number) == (invoice.pk, invoice.number)
    assert view.tenant_pubkey == invoice.tenant_id
    assert (view.status, view.currency, view.total_cents) == ("open", "usd", 500)
    assert view.amount_due_cents == view.amount_remaining_cents == 500
    assert view.amount_paid_cents == 0
    assert view.hosted_url == invoice.hosted_invoice_url
    assert (view.created_at, view.due_at) == (invoice.created_at, invoice.due_at)
    assert view.finalized_at == invoice.finalized_at
    assert view.paid_at is None
    assert (view.period_start, view.period_end) == (
        invoice.period_start,
        invoice.period_end,
    )
    (line,) = view.lines
    assert "1 × Nostr relay, Basic" in line.description
    assert (line.plan, line.amount_cents, line.quantity) == ("Basic", 500, 1)
    assert line.period_end == view.period_end
    ours = view.collection
    assert ours
    assert (ours.state, ours.paid_by, ours.waiting) == ("manual", "", None)
    assert ours.suspend_at == invoice.suspend_at
    assert invoice.finalized_at
    assert ours.next_try_at == invoice.finalized_at + timedelta(days=1)
    assert ours.lightning_until is None
    assert ours.payment_link
    assert verify_token(ours.payment_link.rsplit("/", 1)[1]) == invoice.pk
    assert ours.payment_link not in repr(view)


def test_one_invoice_is_shown_as_in_the_list(invoice):
    (listed,) = list_invoices(invoice.tenant)
    view = get_invoice(invoice.pk)

    assert view.lines == listed.lines
    assert view.collection and listed.collection
    assert view.collection.suspend_at == listed.collection.suspend_at


def test_a_draft_is_shown_too(subscriber):
    (view,) = list_invoices(subscriber)

    assert (view.status, view.number) == ("draft", "")
    assert view.collection and view.collection.payment_link is None


def test_invoices_that_we_do_not_collect_are_shown_newest_first(
    invoice, sandbox, clock
):
    clock.move(hours=1)
    other = add_invoice(sandbox, invoice.stripe_customer_id)

    shown = list_invoices(invoice.tenant)

    assert [view.id for view in shown] == [other.id, invoice.pk]
    assert shown[0].collection is None
    assert [line.description for line in shown[0].lines] == ["Extra 0"]
    assert [line.plan for line in shown[0].lines] == [""]
    assert get_invoice(other.id).tenant_pubkey == invoice.tenant_id


def test_who_is_no_customer_has_no_invoices(sandbox):
    assert list_invoices(TenantFactory()) == []
    assert sandbox.requests() == []


def test_a_paid_invoice_says_what_paid_it(invoice, sandbox):
    sandbox.client().v1.payment_methods.attach(
        "pm_card_visa", {"customer": invoice.stripe_customer_id}
    )
    InvoiceCollection.objects.update(next_action="card")
    collect_invoice(invoice_id=invoice.pk)

    view = get_invoice(invoice.pk)

    assert (view.status, view.amount_paid_cents) == ("paid", 500)
    assert view.paid_at and abs(view.paid_at - timezone.now()) < timedelta(minutes=1)
    ours = view.collection
    assert ours and (ours.state, ours.paid_by) == ("closed", "card")
    assert (ours.payment_link, ours.next_try_at) == (None, None)


def test_all_lines_are_shown_of_one_and_ten_in_a_list(invoice, sandbox):
    long = add_invoice(sandbox, invoice.stripe_customer_id, lines=12)

    listed = next(view for view in list_invoices(invoice.tenant) if view.id == long.id)
    view = get_invoice(long.id)

    assert (len(listed.lines), listed.has_more_lines) == (10, True)
    assert (len(view.lines), view.has_more_lines) == (12, False)
    assert len(get_invoice(long.id).lines) == 12


# --- what is not


@pytest.mark.parametrize(
    "junk",
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
def test_what_cannot_be_an_invoice_never_reaches_stripe(sandbox, junk):
    with pytest.raises(UnknownInvoice):
        get_invoice(junk)

    assert sandbox.requests() == []


def test_an_invoice_that_stripe_does_not_have_is_unknown(sandbox):
    with pytest.raises(UnknownInvoice):
        get_invoice("in_nothing")


def test_an_invoice_of_nobody_of_ours_is_unknown(sandbox):
    stranger = customer(sandbox)
    theirs = add_invoice(sandbox, stranger)

    for _ in range(2):
        with pytest.raises(UnknownInvoice):
            get_invoice(theirs.id)


def test_who_was_deleted_at_stripe_is_shown_what_it_still_has(invoice, sandbox):
    sandbox.client().v1.customers.delete(invoice.stripe_customer_id)

    (view,) = list_invoices(invoice.tenant)

    assert view.id == invoice.pk


def test_an_invoice_outlives_its_customer(invoice, sandbox):
    type(invoice.tenant).objects.update(stripe_customer_id=None)

    assert get_invoice(invoice.pk).tenant_pubkey == invoice.tenant_id


# --- what may be paying it


def test_a_customers_earlier_tenant_keeps_its_invoices(invoice, sandbox):
    """Support has given a customer to another account of the same person."""
    heir = TenantFactory(stripe_customer_id="cus_later")
    owner = invoice.tenant
    type(heir).objects.filter(pk=owner.pk).update(stripe_customer_id=None)
    heir.stripe_customer_id = owner.stripe_customer_id
    heir.save(update_fields=["stripe_customer_id"])
    extra = add_invoice(sandbox, heir.stripe_customer_id)

    assert [view.id for view in list_invoices(heir)] == [extra.id]
    assert get_invoice(invoice.pk).tenant_pubkey == owner.pk


def test_stripe_is_asked_about_ones_own_customer_only(invoice, sandbox):
    nobody, other = TenantFactory(), TenantFactory(stripe_customer_id="cus_other")

    assert has_invoice(invoice.tenant_id, invoice.pk)
    before = len(sandbox.requests())
    assert not has_invoice(nobody.pk, invoice.pk)
    assert not has_invoice(nobody.pk, "in_guess")
    assert len(sandbox.requests()) == before
    assert not has_invoice(other.pk, invoice.pk)
    assert sandbox.requests()[before:] == sandbox.requests("GET", "/v1/invoices")[-1:]


def test_a_wallet_that_was_asked_is_waited_for(invoice, alice, own_wallet, rates):
    connect_wallet(pubkey=invoice.tenant_id, nwc_url=alice.url)
    start_payment(
        bill=PaymentRequest(invoice.tenant_id, invoice.pk, 500, "usd", "Invoice")
    )

    (view,) = list_invoices(invoice.tenant)

    ours = view.collection
    assert ours and ours.waiting
    assert ours.waiting.why == "It may still be paid by Lightning."
    assert ours.waiting.until == LightningInvoice.objects.get().final_at


def charge(invoice):
    CardAttempt.objects.create(
        collection=invoice,
        payment_method="pm_1",
        amount_cents=500,
        idempotency_key="key",
    )


def reduce(invoice):
    StripeWrite.objects.create(
        tenant=invoice.tenant,
        kind=StripeWrite.Kind.CREATE_CREDIT_NOTE,
        subject=invoice.pk,
        generation=1,
        idempotency_key="key",
        params={},
    )


def book(invoice):
    paid = make_invoice(
        invoice.tenant,
        "ab" * 32,
        stripe_invoice_id=invoice.pk,
        state="settled",
        settled_at=timezone.now(),
    )
    Settlement.objects.create(invoice=paid, collection=invoice, state="marking")


@pytest.mark.parametrize(
    ("begin", "why"),
    [
        (charge, "The card has been asked to pay this."),
        (reduce, "The amount is about to be reduced."),
        (book, "A payment has arrived and is being booked."),
    ],
)
def test_whatever_else_is_under_way_is_waited_for(invoice, begin, why):
    begin(invoice)

    ours = get_invoice(invoice.pk).collection

    assert (
        ours
        and ours.waiting
        and (ours.waiting.why, ours.waiting.until)
        == (
            why,
            None,
        )
    )


def test_a_bolt11_that_a_person_was_shown_keeps_nobody_waiting(
    invoice, own_wallet, rates
):
    get_or_issue_bolt11(invoice_id=invoice.pk)

    ours = get_invoice(invoice.pk).collection

    assert ours and ours.waiting is None


@pytest.mark.parametrize("count", [1, 100])
def test_any_number_of_invoices_takes_as_many_queries(
    sandbox, prices, count, django_assert_num_queries
):
    tenant = TenantFactory(stripe_customer_id=customer(sandbox))
    for _ in range(count):
        made = add_invoice(sandbox, tenant.stripe_customer_id)
        row = InvoiceCollectionFactory(stripe_invoice_id=made.id, tenant=tenant)
        book(row)

    with django_assert_num_queries(7):
        shown = list_invoices(tenant)

    assert len(shown) == count
    assert all(view.collection and view.collection.waiting for view in shown)


# --- the cache


def test_stripe_is_asked_once_in_half_a_minute(invoice, sandbox):
    with time_machine.travel(timezone.now(), tick=False) as traveller:
        first = list_invoices(invoice.tenant)
        before = asked(sandbox)
        again = list_invoices(invoice.tenant)
        assert asked(sandbox) == before
        assert again == first
        traveller.shift(FRESH)
        later = list_invoices(invoice.tenant)

    assert asked(sandbox) == before + 1
    assert later[0].asked_at == first[0].asked_at + FRESH


def test_what_a_clock_ahead_of_ours_has_kept_is_not_fresh(invoice, sandbox):
    with time_machine.travel(timezone.now() + timedelta(minutes=50)):
        list_invoices(invoice.tenant)
    before = asked(sandbox)

    list_invoices(invoice.tenant)

    assert asked(sandbox) == before + 1


def test_our_side_is_never_remembered(invoice):
    get_invoice(invoice.pk)
    InvoiceCollection.objects.update(state="pending")

    ours = get_invoice(invoice.pk).collection

    assert ours and ours.state == "pending"


def test_a_payment_is_seen_at_once(
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


def test_a_change_of_one_that_we_do_not_collect_is_seen_at_once(
    invoice, sandbox, django_capture_on_commit_callbacks
):
    extra = add_invoice(sandbox, invoice.stripe_customer_id)
    assert get_invoice(extra.id).status == "draft"
    sandbox.client().v1.invoices.finalize_invoice(extra.id)

    with django_capture_on_commit_callbacks(execute=True):
        record_and_enqueue(Stripe().get_invoice(extra.id), invoice.tenant)

    assert get_invoice(extra.id).status == "open"


def test_what_was_asked_before_a_change_is_not_taken_for_new(sandbox, invoice):
    """The answer is on its way while a webhook tells of a change."""

    def ask():
        found = Stripe().list_invoices(customer=invoice.stripe_customer_id)
        invalidate(invoice.stripe_customer_id, invoice.pk)
        return found

    get_or_fetch(invoice.stripe_customer_id, ask)
    before = asked(sandbox)
    list_invoices(invoice.tenant)

    assert asked(sandbox) == before + 1


def test_what_is_read_again_unchanged_is_not_forgotten(
    invoice, sandbox, django_capture_on_commit_callbacks
):
    list_invoices(invoice.tenant)
    with django_capture_on_commit_callbacks(execute=True):
        record_and_enqueue(
            Stripe().get_invoice(invoice.pk), invoice.tenant, since=invoice.revision
        )
    before = asked(sandbox)

    list_invoices(invoice.tenant)

    assert asked(sandbox) == before


def test_while_stripe_is_away_the_last_answer_is_shown(invoice, sandbox):
    first = list_invoices(invoice.tenant)
    one = get_invoice(invoice.pk)
    stripe_is_away(sandbox)

    with time_machine.travel(timezone.now() + timedelta(minutes=10)):
        again = list_invoices(invoice.tenant)
        assert get_invoice(invoice.pk).asked_at == one.asked_at

    assert again[0].asked_at == first[0].asked_at
    assert again[0].lines == first[0].lines


def test_while_stripe_is_away_and_nothing_is_remembered_nobody_can_say(
    invoice, sandbox
):
    stripe_is_away(sandbox)

    with pytest.raises(StripeUnavailable):
        list_invoices(invoice.tenant)
    with pytest.raises(StripeUnavailable):
        get_invoice(invoice.pk)


def test_without_redis_stripe_is_asked_each_time(invoice, sandbox, no_redis, caplog):
    before = asked(sandbox)

    for _ in range(2):
        (view,) = list_invoices(invoice.tenant)
        assert view.id == invoice.pk
        invalidate(invoice.stripe_customer_id, invoice.pk)

    assert asked(sandbox) == before + 2
    assert "cache_unavailable" in caplog.text


def test_what_another_version_has_kept_is_not_read(invoice, sandbox, monkeypatch):
    list_invoices(invoice.tenant)
    before = asked(sandbox)
    monkeypatch.setattr("billing.services.invoices.cache._SHAPE", "another")

    list_invoices(invoice.tenant)

    assert asked(sandbox) == before + 1


def test_a_reduced_invoice_is_shown_reduced(
    invoice, sandbox, django_capture_on_commit_callbacks
):
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

    (view,) = list_invoices(invoice.tenant)
    assert view.amount_remaining_cents == 300
