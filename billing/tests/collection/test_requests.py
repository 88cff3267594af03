"""The work that a collection costs: task messages, and requests to Stripe."""

import pytest

from billing.models import InvoiceCollection
from billing.services.collection.attempts import collect_now
from billing.services.collection.collect import collect_enqueued
from billing.services.collection.collect import collect_invoice as run_collection
from billing.services.invoices.records import enqueue_collection
from billing.tasks import collect_invoice
from billing.tests.support.collection import (
    collect,
    collection_of,
    deliver_last,
    pay_by_wallet,
)
from lightning.services.wallets import connect_wallet

pytestmark = pytest.mark.django_db


@pytest.fixture
def messages(monkeypatch):
    """The invoices whose collection was enqueued, in order."""
    sent: list[str] = []
    monkeypatch.setattr(
        collect_invoice,
        "apply_async",
        lambda args=(), kwargs=None, **options: sent.append(args[0]),
    )
    return sent


@pytest.fixture
def on_commit(django_capture_on_commit_callbacks):
    return lambda: django_capture_on_commit_callbacks(execute=True)


def requests_of(sandbox, work) -> list[str]:
    """Return the requests to Stripe that a function makes, ids left out."""
    before = len(sandbox.requests())
    work()
    made = sandbox.requests()[before:]
    parts = [(each["method"], each["path"].split("?")[0].split("/")) for each in made]
    return [f"{method} {path[2]}/{path[-1]}"[:16] for method, path in parts]


# --- messages


def test_message_on_its_way_covers_later_changes(invoice, messages, on_commit):
    InvoiceCollection.objects.update(enqueued_at=None)

    for _ in range(3):
        with on_commit():
            enqueue_collection(invoice_id=invoice.pk)

    assert messages == [invoice.pk]


def test_message_that_a_task_has_taken_covers_no_later_change(
    invoice, messages, on_commit
):
    with on_commit():
        enqueue_collection(invoice_id=invoice.pk)
    run_collection(invoice_id=invoice.pk)

    with on_commit():
        enqueue_collection(invoice_id=invoice.pk)

    assert messages == [invoice.pk] * 2


def test_message_that_counts_as_lost_covers_no_later_change(
    invoice, messages, on_commit, clock, settings
):
    with on_commit():
        enqueue_collection(invoice_id=invoice.pk)
    clock.move(seconds=settings.ENQUEUED_TIMEOUT + 1)

    with on_commit():
        enqueue_collection(invoice_id=invoice.pk)

    assert messages == [invoice.pk] * 2


def test_operator_who_collects_again_sends_another_message(
    invoice, messages, on_commit
):
    for _ in range(2):
        with on_commit():
            collect_now(invoice_id=invoice.pk)

    assert messages == [invoice.pk] * 2


def test_closed_collection_is_opened_again_by_a_message_on_its_way(
    invoice, messages, on_commit
):
    with on_commit():
        enqueue_collection(invoice_id=invoice.pk)
    InvoiceCollection.objects.update(state="closed", closed_at=invoice.created_at)

    with on_commit():
        enqueue_collection(invoice_id=invoice.pk)

    assert InvoiceCollection.objects.get().state == "collecting"
    assert messages == [invoice.pk]


def test_end_of_a_wallet_payment_sends_one_message(
    subscriber, alice, rates, messages, on_commit
):
    connect_wallet(pubkey=subscriber.pk, nwc_url=alice.url)
    collect(subscriber)
    messages.clear()

    with on_commit():
        pay_by_wallet()

    assert messages == [collection_of(subscriber).pk]


# --- requests to Stripe


def test_second_message_about_a_collected_invoice_costs_no_request(invoice, sandbox):
    enqueue_collection(invoice_id=invoice.pk)
    first = requests_of(sandbox, lambda: collect_enqueued(invoice_id=invoice.pk))

    second = requests_of(sandbox, lambda: collect_enqueued(invoice_id=invoice.pk))

    assert (len(first) > 0, second) == (True, [])


def test_message_is_delivered_again_after_its_worker_was_killed(invoice, sandbox):
    enqueue_collection(invoice_id=invoice.pk)
    # As far as the killed worker came.
    InvoiceCollection.objects.update(enqueued_at=None)

    made = requests_of(sandbox, lambda: collect_enqueued(invoice_id=invoice.pk))

    assert made


def test_invoice_is_read_once_until_the_wallet_is_asked(
    subscriber, sandbox, alice, rates
):
    connect_wallet(pubkey=subscriber.pk, nwc_url=alice.url)

    made = requests_of(sandbox, lambda: collect(subscriber))

    invoice_id = collection_of(subscriber).pk
    # Read as a draft, finalized, and read as open.
    assert made == [
        f"GET invoices/{invoice_id}"[:16],
        "POST invoices/finalize"[:16],
        f"GET invoices/{invoice_id}"[:16],
    ]


def test_invoice_without_means_of_payment_is_read_once(invoice, sandbox):
    InvoiceCollection.objects.update(next_action="wallet")

    made = requests_of(sandbox, lambda: run_collection(invoice_id=invoice.pk))

    assert [each for each in made if each.startswith("GET invoices")] == [
        f"GET invoices/{invoice.pk}"[:16]
    ]


def test_payment_by_wallet_is_booked_with_three_requests(
    subscriber, sandbox, alice, rates
):
    connect_wallet(pubkey=subscriber.pk, nwc_url=alice.url)
    collect(subscriber)
    pay_by_wallet()

    made = requests_of(sandbox, lambda: collect(subscriber))

    assert [each.split("/")[0] for each in made] == [
        "GET invoices",
        "POST invoices",
        "POST invoices",
    ]
    assert collection_of(subscriber).state == "closed"


@pytest.mark.parametrize(
    ("type", "outcome"),
    [
        ("invoice.updated", "its new status has its own event"),
        ("invoice.paid", "collected already"),
    ],
)
def test_events_of_a_booked_payment_change_nothing(
    type, outcome, subscriber, sandbox, alice, rates, messages
):
    connect_wallet(pubkey=subscriber.pk, nwc_url=alice.url)
    collect(subscriber)
    pay_by_wallet()
    collect(subscriber)
    messages.clear()
    booked = InvoiceCollection.objects.values().get()
    events = []

    made = requests_of(sandbox, lambda: events.append(deliver_last(sandbox, type)))

    assert [each.outcome for each in events] == [outcome]
    # The test itself reads the event.
    assert [each for each in made if "invoices" in each] == []
    assert InvoiceCollection.objects.values().get() == booked
    assert messages == []
