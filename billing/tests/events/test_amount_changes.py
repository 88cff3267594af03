"""Changes of an invoice by staff are read at once: events on invoices and notes."""

import json
from datetime import timedelta

import pytest
import time_machine

from billing.models import InvoiceCollection, StripeEvent, SubscriptionSync
from billing.services.collection.collect import collect_invoice
from billing.services.credits.posting import post_credits
from billing.services.dunning.suspension import review_tenant
from billing.services.events.process import HANDLERS, process_event
from billing.services.invoice_views.invoices import get_invoice
from billing.tests.factories import StripeEventFactory
from billing.tests.support.payment_page import path_of, text
from billing.tests.support.subscriptions import sync_until_in_sync
from relays.services import lifecycle
from sandbox.tests.support.stripe.control import control
from tenants.models import Notice, Tenant
from tenants.services.tenants import update_tenant
from tenants.tests.factories import confirm_address

pytestmark = pytest.mark.django_db

NOTE_EVENTS = ("credit_note.created", "credit_note.updated", "credit_note.voided")


def deliver(sandbox, *types):
    """Process the sandbox's events of these types, oldest first."""
    events = []
    for sent in reversed(sandbox.client().v1.events.list({"limit": 100}).data):
        is_new = not StripeEvent.objects.filter(pk=sent.id).exists()
        if sent.type in types and is_new:
            body = json.dumps(sent.to_dict(for_json=True))
            row = StripeEventFactory(id=sent.id, type=sent.type)
            StripeEvent.objects.filter(pk=row.pk).update(body=body)
            events.append(process_event(event_id=row.pk))
    assert events, f"the sandbox sent none of {types}"
    return [StripeEvent.objects.get(pk=event.pk).outcome for event in events]


def credit(sandbox, invoice, cents, **params):
    """Create a credit note as staff do in the dashboard."""
    note = {"invoice": invoice.pk, "amount": cents, **params}
    return sandbox.client().v1.credit_notes.create(note)


def remaining(invoice):
    invoice.refresh_from_db()
    return invoice.amount_remaining_cents


@pytest.mark.parametrize("types", [["credit_note.created"], ["invoice.updated"]])
def test_credit_note_by_staff_is_seen_by_page_api_and_reminder(
    client, sandbox, open_invoice, types, django_capture_on_commit_callbacks
):
    path, deadline = path_of(open_invoice), open_invoice.suspend_at
    assert "$5.00" in text(client.get(path))
    assert get_invoice(open_invoice.pk).amount_remaining_cents == 500

    credit(sandbox, open_invoice, 200)
    with django_capture_on_commit_callbacks(execute=True):
        deliver(sandbox, *types)

    assert remaining(open_invoice) == 300
    assert get_invoice(open_invoice.pk).amount_remaining_cents == 300
    assert "$3.00" in text(client.get(path))
    with time_machine.travel(deadline - timedelta(hours=30), tick=False):
        review_tenant(tenant_id=open_invoice.tenant_id)
    reminder = Notice.objects.get(kind="reminder_3")
    assert "$3.00" in reminder.text and "$5.00" not in reminder.text


def test_unsent_notice_has_the_amount_after_the_credit_note(sandbox, open_invoice):
    notice = Notice.objects.get(kind="invoice_due")
    assert "$5.00" in notice.text

    credit(sandbox, open_invoice, 200)
    deliver(sandbox, "credit_note.created")
    collect_invoice(invoice_id=open_invoice.pk)

    waiting = Notice.objects.waiting().get(subject=open_invoice.pk)
    assert "$3.00" in waiting.text and "$5.00" not in waiting.text


def test_credit_note_of_all_ends_the_debt(sandbox, open_invoice):
    credit(sandbox, open_invoice, 500)

    deliver(sandbox, "credit_note.created")

    assert not InvoiceCollection.objects.unpaid().exists()


def test_voided_credit_note_restores_the_amount(sandbox, open_invoice):
    note = credit(sandbox, open_invoice, 200)
    deliver(sandbox, "credit_note.created")

    sandbox.client().v1.credit_notes.void_credit_note(note.id)
    deliver(sandbox, "credit_note.voided")

    assert remaining(open_invoice) == 500


def test_credit_note_of_a_deleted_customer_is_seen(sandbox, open_invoice):
    credit(sandbox, open_invoice, 200)
    Tenant.objects.update(stripe_customer_id=None)

    [outcome] = deliver(sandbox, "credit_note.created")

    assert outcome == "the invoice is open: collection enqueued"
    assert remaining(open_invoice) == 300


@pytest.mark.parametrize("type", NOTE_EVENTS)
def test_event_of_another_invoice_of_the_customer_records_nothing(
    sandbox, subscriber, type
):
    customer = subscriber.stripe_customer_id
    foreign = sandbox.client().v1.invoices.create({"customer": customer})
    before = InvoiceCollection.objects.count()
    sent = {"id": "cn_1", "object": "credit_note", "invoice": foreign.id}
    event = StripeEventFactory(type=type, object={**sent, "customer": customer})

    process_event(event_id=event.pk)

    event.refresh_from_db()
    assert event.outcome == "not an invoice of one of our subscriptions"
    assert InvoiceCollection.objects.count() == before


@pytest.fixture
def paid_and_ended(sandbox, clock, open_invoice):
    """A tenant that paid $5 and left after three days, with $4.50 on its balance."""
    tenant = open_invoice.tenant
    sandbox.client().v1.invoices.pay(open_invoice.pk, {"paid_out_of_band": True})
    deliver(sandbox, "invoice.paid")
    clock.move(days=3)
    leave(tenant)
    assert 440 <= credit_of(sandbox, tenant) <= 460
    return tenant


def leave(tenant):
    for relay in tenant.relays.all():
        lifecycle.deactivate_relay(relay_id=relay.pk)
    settle(tenant)


def settle(tenant):
    sync_until_in_sync(tenant)
    assert post_credits(tenant_id=tenant.pk)


def credit_of(sandbox, tenant):
    customer = sandbox.client().v1.customers.retrieve(tenant.stripe_customer_id)
    return -customer.balance


def test_note_after_the_end_counts_against_the_credit_for_unused_time(
    sandbox, open_invoice, paid_and_ended
):
    note = credit(sandbox, open_invoice, 500, out_of_band_amount=500)
    deliver(sandbox, "credit_note.created")
    assert SubscriptionSync.objects.get().is_stale
    settle(paid_and_ended)

    assert credit_of(sandbox, paid_and_ended) == 0

    again = note.to_dict(for_json=True)
    for type in NOTE_EVENTS:
        process_event(event_id=StripeEventFactory(type=type, object=again).pk)
    settle(paid_and_ended)
    assert credit_of(sandbox, paid_and_ended) == 0


def test_own_credit_note_sends_no_email_to_the_tenant(sandbox, clock, open_invoice):
    tenant = open_invoice.tenant
    update_tenant(pubkey=tenant.pk, email="alice@example.com")
    confirm_address(tenant)
    sync_until_in_sync(tenant)
    clock.move(days=4)

    leave(tenant)

    [note] = sandbox.client().v1.credit_notes.list({}).data
    assert 420 <= note.amount <= 440
    assert control(sandbox, "GET", "emails")[1]["data"] == []
    # Staff decide about theirs, so the address is one that would get it.
    by_staff = credit(sandbox, open_invoice, 10)
    [email] = control(sandbox, "GET", "emails")[1]["data"]
    assert (email["to"], email["credit_note"]) == ("alice@example.com", by_staff.id)


def test_all_types_that_a_handler_needs_are_those_of_the_endpoint():
    assert {"invoice.updated", *NOTE_EVENTS} <= HANDLERS.keys()
