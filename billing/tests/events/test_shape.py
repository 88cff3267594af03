"""Events that are signed, but not as Stripe documents them."""

import pytest

from billing.models import StripeEvent
from billing.services.events.process import EVENT_TYPES
from billing.tasks import process_stripe_event
from billing.tests.factories import StripeEventFactory
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db

SURROGATE = "cus_\ud800"


@pytest.fixture(autouse=True)
def _tenant():
    TenantFactory(stripe_customer_id="cus_1")


def process(type, object, previous=None):
    event = StripeEventFactory(type=type, object=object, previous=previous)
    # As a task: an unexpected exception is raised here.
    process_stripe_event(event.pk)
    event.refresh_from_db()
    return event


@pytest.mark.parametrize("type", sorted(EVENT_TYPES))
@pytest.mark.parametrize(
    ("fault", "change"),
    [
        ("id", {"id": None}),
        ("id", {"id": "sub_\0"}),
        ("id", {"id": {"id": "sub_1"}}),
        ("customer", {"customer": {"id": "cus_1"}}),
        ("customer", {"customer": SURROGATE}),
        ("customer", {"customer": ["cus_1"]}),
        ("invoice", {"invoice": {"id": "in_1"}}),
        ("charge", {"charge": {"id": "ch_1"}}),
    ],
)
def test_event_with_a_malformed_reference_is_given_up_at_once(type, fault, change):
    fields = {"id": "x_1", "customer": "cus_1", "invoice": "in_1", **change}

    event = process(type, fields)

    assert (event.status, event.last_error_code) == ("failed", "event-unreadable")
    assert fault in event.last_error
    assert not StripeEvent.objects.received().exists()


@pytest.mark.parametrize(
    ("type", "previous"),
    [
        ("customer.updated", ["invoice_settings"]),
        ("customer.updated", "invoice_settings"),
        ("customer.updated", {"invoice_settings": 7}),
        ("customer.updated", {"invoice_settings": "default_payment_method"}),
        ("invoice.updated", 7),
        ("invoice.updated", [{"a": 1}]),
        ("payment_method.detached", {"customer": {"id": "cus_1"}}),
        ("payment_method.detached", ["customer"]),
    ],
)
def test_event_with_odd_previous_attributes_is_given_up_at_once(type, previous):
    event = process(type, {"id": "x_1", "customer": None}, previous)

    assert (event.status, event.last_error_code) == ("failed", "event-unreadable")


def test_credit_note_without_an_invoice_is_given_up_at_once():
    event = process("credit_note.created", {"id": "cn_1", "customer": "cus_1"})

    assert (event.status, event.last_error_code) == ("failed", "event-unreadable")


def test_event_without_a_handler_may_have_any_form():
    event = process("balance.available", {"customer": {"id": "cus_1"}}, ["x"])

    assert (event.status, event.outcome) == ("processed", "no handler for this type")
