"""Drafts wait up to 72 hours for delivery of `invoice.created`."""

import pytest

from sandbox.stripe.app import StripeApp
from sandbox.stripe.client.in_process import in_process_client
from sandbox.stripe.webhooks.faults import WebhookFault
from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.builders import DAY, HOUR
from sandbox.tests.support.stripe.receiver import Receiver

URL = "http://127.0.0.1:1/"
MAX_DELAY = 72 * HOUR


class Scenario:
    """A subscription's first draft, and an endpoint for its events."""

    def __init__(self, status=200, events=None):
        self.receiver = Receiver()
        self.receiver.always = status
        self.app = StripeApp(seed=1, post=self.receiver, retry_delays=(3600.0,))
        self.api = in_process_client(self.app)
        self.app.register_endpoint(URL, events=events)

    def create_draft(self):
        """Create the draft and attempt all deliveries."""
        subscription = builders.subscription(self.api)
        self.id = str(subscription.latest_invoice)
        self.deliver()
        return self

    def deliver(self):
        """Attempt each pending delivery once more, regardless of its retry time."""
        self.app.deliveries.reset()
        self.app.deliveries.deliver_due()

    def after(self, seconds):
        """Advance to `seconds` after the creation of the invoice and return it."""
        self.app.advance(self.invoice.created + seconds - self.app.clock.now())
        return self.invoice

    @property
    def invoice(self):
        return self.api.v1.invoices.retrieve(self.id)


def test_draft_is_finalized_an_hour_after_delivery():
    scenario = Scenario().create_draft()

    assert scenario.invoice.webhooks_delivered_at == scenario.invoice.created
    assert scenario.after(HOUR - 10).status == "draft"
    assert scenario.after(HOUR + 10).status == "open"


@pytest.mark.parametrize("status", [500, 404, 302, 0])
def test_draft_waits_72_hours_while_delivery_fails(status):
    scenario = Scenario(status).create_draft()

    waiting = scenario.after(HOUR + 10)
    assert (waiting.status, waiting.webhooks_delivered_at) == ("draft", None)
    assert waiting.automatically_finalizes_at == waiting.created + MAX_DELAY
    assert scenario.after(MAX_DELAY - 10).status == "draft"

    finalized = scenario.after(MAX_DELAY + 10)

    assert finalized.status == "open"
    assert finalized.status_transitions.finalized_at == finalized.created + MAX_DELAY
    assert finalized.webhooks_delivered_at is None


def test_hour_starts_at_late_delivery():
    scenario = Scenario(500).create_draft()
    scenario.after(10 * HOUR)
    scenario.receiver.always = 200

    scenario.deliver()

    delivered = scenario.invoice
    assert delivered.webhooks_delivered_at - delivered.created - 10 * HOUR in range(60)
    assert (
        delivered.automatically_finalizes_at == delivered.webhooks_delivered_at + HOUR
    )
    assert scenario.after(11 * HOUR - 10).status == "draft"
    assert scenario.after(11 * HOUR + 10).status == "open"


def test_hour_starts_at_delivery_retried_within_first_hour():
    scenario = Scenario(500).create_draft()
    scenario.after(HOUR // 2)
    scenario.receiver.always = 200

    scenario.deliver()

    assert scenario.after(HOUR + 10).status == "draft"
    assert scenario.after(HOUR + HOUR // 2 + 10).status == "open"


def test_late_delivery_does_not_extend_72_hours():
    scenario = Scenario(500).create_draft()
    scenario.after(MAX_DELAY - 60)
    scenario.receiver.always = 200

    scenario.deliver()

    assert scenario.after(MAX_DELAY + 1).status == "open"


def test_draft_waits_when_its_event_is_queued_behind_failing_delivery():
    scenario = Scenario(0).create_draft()
    [attempted] = [
        delivery for delivery in deliveries(scenario) if delivery["attempts"]
    ]
    assert attempted["draft"] is None

    assert scenario.after(HOUR + 10).status == "draft"

    scenario.receiver.always = 200
    scenario.deliver()
    assert scenario.after(2 * HOUR + 20).status == "open"


def deliveries(scenario):
    return list(scenario.app.store.scan("_delivery"))


def test_draft_waits_until_all_endpoints_acknowledge():
    scenario = Scenario()
    scenario.app.register_endpoint("http://127.0.0.1:2/", events=["invoice.created"])
    scenario.receiver.by_url = {"http://127.0.0.1:2/": 500}
    scenario.create_draft()

    assert (
        len([delivery for delivery in deliveries(scenario) if delivery["draft"]]) == 1
    )
    assert scenario.invoice.webhooks_delivered_at is None
    assert scenario.after(HOUR + 10).status == "draft"


def test_endpoint_without_invoice_created_delays_no_draft():
    scenario = Scenario(500, events=["customer.created"]).create_draft()

    assert scenario.invoice.webhooks_delivered_at == scenario.invoice.created
    assert scenario.after(HOUR + 10).status == "open"


def test_disabled_endpoint_delays_no_draft():
    scenario = Scenario(0).create_draft()
    [endpoint] = scenario.api.v1.webhook_endpoints.list().data

    scenario.api.v1.webhook_endpoints.update(endpoint.id, {"disabled": True})
    scenario.deliver()

    assert scenario.after(HOUR + 10).status == "open"


def test_deleted_endpoint_delays_no_draft():
    scenario = Scenario(0).create_draft()
    [endpoint] = scenario.api.v1.webhook_endpoints.list().data

    scenario.api.v1.webhook_endpoints.delete(endpoint.id)

    assert scenario.app.deliveries.pending() == 0
    assert scenario.after(HOUR + 10).status == "open"


def test_paused_delivery_delays_no_draft():
    scenario = Scenario()
    scenario.app.deliveries.paused = True
    scenario.create_draft()

    after = scenario.after(HOUR + 10)

    assert (after.status, after.webhooks_delivered_at) == ("open", None)
    scenario.app.deliveries.paused = False
    scenario.deliver()
    assert scenario.invoice.webhooks_delivered_at == after.created


@pytest.mark.parametrize("kind", ["drop", "delay", "reorder"])
def test_webhook_fault_delays_no_draft(kind):
    scenario = Scenario()
    fault = WebhookFault(kind, "invoice.created", times=None, seconds=90 * DAY)
    scenario.app.webhook_faults.add(fault)
    scenario.create_draft()

    assert scenario.after(HOUR + 10).status == "open"


def test_long_advance_finalizes_each_draft_after_an_hour():
    scenario = Scenario().create_draft()

    scenario.app.advance(70 * DAY)
    scenario.deliver()

    invoices = scenario.api.v1.invoices.list().data
    assert len(invoices) == 3
    for invoice in invoices:
        assert invoice.status_transitions.finalized_at == invoice.created + HOUR
        assert invoice.webhooks_delivered_at == invoice.created


def test_long_advance_with_failing_endpoint_delays_each_draft_72_hours():
    scenario = Scenario(0).create_draft()

    scenario.app.advance(70 * DAY)

    for invoice in scenario.api.v1.invoices.list().data:
        assert invoice.status_transitions.finalized_at == invoice.created + MAX_DELAY


def test_draft_without_auto_advance_stays_draft_after_late_delivery():
    scenario = Scenario(500)
    invoice = scenario.api.v1.invoices.create(
        {"customer": builders.customer(scenario.api).id}
    )
    scenario.id = invoice.id
    scenario.deliver()
    scenario.receiver.always = 200

    scenario.deliver()

    assert scenario.invoice.automatically_finalizes_at is None
    assert scenario.after(80 * HOUR).status == "draft"


def test_delayed_finalization_survives_restart(tmp_path):
    receiver = Receiver()
    receiver.always = 0
    state = tmp_path / "stripe.sqlite"
    app = StripeApp(state=state, post=receiver)
    app.register_endpoint(URL)
    subscription = builders.subscription(in_process_client(app))
    app.deliveries.deliver_due()
    app.close()

    restarted = StripeApp(state=state, post=receiver)
    restarted.advance(2 * HOUR)

    invoice = in_process_client(restarted).v1.invoices.retrieve(
        str(subscription.latest_invoice)
    )
    assert invoice.automatically_finalizes_at == invoice.created + MAX_DELAY
    restarted.close()


def test_late_delivery_for_deleted_draft_is_harmless():
    scenario = Scenario(500)
    invoice = scenario.api.v1.invoices.create(
        {"customer": builders.customer(scenario.api).id}
    )
    scenario.deliver()
    scenario.api.v1.invoices.delete(invoice.id)
    scenario.receiver.always = 200

    scenario.deliver()

    assert scenario.app.deliveries.pending() == 0
