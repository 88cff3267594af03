"""A draft waits for the endpoints that listen to `invoice.created`: up to 72 hours."""

import pytest

from sandbox.stripe.app import StripeApp
from sandbox.stripe.transport import in_process_client
from sandbox.stripe.webhook_faults import WebhookFault
from sandbox.tests.support import stripe_builders as story
from sandbox.tests.support.stripe_builders import DAY, HOUR
from sandbox.tests.support.stripe_receiver import Receiver

URL = "http://127.0.0.1:1/"
LONGEST = 72 * HOUR


class Story:
    """A subscription's first draft, and the endpoint that hears of it."""

    def __init__(self, answer=200, events=None):
        self.receiver = Receiver()
        self.receiver.always = answer
        self.app = StripeApp(seed=1, post=self.receiver, retry_delays=(3600.0,))
        self.api = in_process_client(self.app)
        self.app.register_endpoint(URL, events=events)

    def begin(self):
        """Create the draft and try to deliver what there is."""
        subscribed = story.subscription(self.api)
        self.id = str(subscribed.latest_invoice)
        self.deliver()
        return self

    def deliver(self):
        """Try each delivery once more; after a failure nothing is tried by itself."""
        self.app.deliveries.reset()
        self.app.deliveries.deliver_due()

    def after(self, seconds):
        """Return the invoice when so much time has passed since it was made."""
        self.app.advance(self.invoice.created + seconds - self.app.clock.now())
        return self.invoice

    @property
    def invoice(self):
        return self.api.v1.invoices.retrieve(self.id)


def test_an_hour_after_its_event_was_taken_a_draft_is_finalized():
    told = Story().begin()

    assert told.invoice.webhooks_delivered_at == told.invoice.created
    assert told.after(HOUR - 10).status == "draft"
    assert told.after(HOUR + 10).status == "open"


@pytest.mark.parametrize("answer", [500, 404, 302, 0])
def test_while_its_event_is_refused_a_draft_waits_72_hours(answer):
    told = Story(answer).begin()

    waiting = told.after(HOUR + 10)
    assert (waiting.status, waiting.webhooks_delivered_at) == ("draft", None)
    assert waiting.automatically_finalizes_at == waiting.created + LONGEST
    assert told.after(LONGEST - 10).status == "draft"

    done = told.after(LONGEST + 10)

    assert done.status == "open"
    assert done.status_transitions.finalized_at == done.created + LONGEST
    assert done.webhooks_delivered_at is None


def test_the_hour_begins_when_its_event_is_taken_at_last():
    told = Story(500).begin()
    told.after(10 * HOUR)
    told.receiver.always = 200

    told.deliver()

    taken = told.invoice
    assert taken.webhooks_delivered_at - taken.created - 10 * HOUR in range(5)
    assert taken.automatically_finalizes_at == taken.webhooks_delivered_at + HOUR
    assert told.after(11 * HOUR - 10).status == "draft"
    assert told.after(11 * HOUR + 10).status == "open"


def test_the_hour_begins_then_also_within_the_first_hour():
    told = Story(500).begin()
    told.after(HOUR // 2)
    told.receiver.always = 200

    told.deliver()

    assert told.after(HOUR + 10).status == "draft"
    assert told.after(HOUR + HOUR // 2 + 10).status == "open"


def test_after_72_hours_no_hour_is_added():
    told = Story(500).begin()
    told.after(LONGEST - 60)
    told.receiver.always = 200

    told.deliver()

    assert told.after(LONGEST + 1).status == "open"


def test_behind_an_event_that_does_not_get_through_a_draft_waits_too():
    told = Story(0).begin()
    [tried] = [one for one in deliveries(told) if one["attempts"]]
    assert tried["draft"] is None

    assert told.after(HOUR + 10).status == "draft"

    told.receiver.always = 200
    told.deliver()
    assert told.after(2 * HOUR + 20).status == "open"


def deliveries(told):
    return list(told.app.store.scan("_delivery"))


def test_all_endpoints_have_to_take_it():
    told = Story()
    told.app.register_endpoint("http://127.0.0.1:2/", events=["invoice.created"])
    told.receiver.by_url = {"http://127.0.0.1:2/": 500}
    told.begin()

    assert len([one for one in deliveries(told) if one["draft"]]) == 1
    assert told.invoice.webhooks_delivered_at is None
    assert told.after(HOUR + 10).status == "draft"


def test_an_endpoint_that_does_not_listen_delays_nothing():
    told = Story(500, events=["customer.created"]).begin()

    assert told.invoice.webhooks_delivered_at == told.invoice.created
    assert told.after(HOUR + 10).status == "open"


def test_an_endpoint_that_is_switched_off_delays_nothing():
    told = Story(0).begin()
    [endpoint] = told.api.v1.webhook_endpoints.list().data

    told.api.v1.webhook_endpoints.update(endpoint.id, {"disabled": True})
    told.deliver()

    assert told.after(HOUR + 10).status == "open"


def test_an_endpoint_that_is_deleted_delays_nothing():
    told = Story(0).begin()
    [endpoint] = told.api.v1.webhook_endpoints.list().data

    told.api.v1.webhook_endpoints.delete(endpoint.id)

    assert told.app.deliveries.pending() == 0
    assert told.after(HOUR + 10).status == "open"


def test_what_was_not_tried_delays_nothing():
    told = Story()
    told.app.deliveries.settings.paused = True
    told.begin()

    open_ = told.after(HOUR + 10)

    assert (open_.status, open_.webhooks_delivered_at) == ("open", None)
    told.app.deliveries.settings.paused = False
    told.deliver()
    assert told.invoice.webhooks_delivered_at == open_.created


@pytest.mark.parametrize("kind", ["drop", "delay", "reorder"])
def test_a_fault_of_the_delivery_delays_nothing(kind):
    told = Story()
    fault = WebhookFault(kind, "invoice.created", times=None, seconds=90 * DAY)
    told.app.webhook_faults.add(fault)
    told.begin()

    assert told.after(HOUR + 10).status == "open"


def test_a_month_in_one_step_finalizes_every_draft_after_an_hour():
    told = Story().begin()

    told.app.advance(70 * DAY)
    told.deliver()

    invoices = told.api.v1.invoices.list().data
    assert len(invoices) == 3
    for one in invoices:
        assert one.status_transitions.finalized_at == one.created + HOUR
        assert one.webhooks_delivered_at == one.created


def test_a_month_in_one_step_past_a_failing_endpoint_waits_for_every_draft():
    told = Story(0).begin()

    told.app.advance(70 * DAY)

    for one in told.api.v1.invoices.list().data:
        assert one.status_transitions.finalized_at == one.created + LONGEST


def test_a_draft_with_a_date_of_its_own_keeps_it():
    told = Story(500).begin()
    at = told.invoice.created + 30 * DAY
    told.api.v1.invoices.update(told.id, {"automatically_finalizes_at": at})

    told.after(10 * HOUR)
    told.receiver.always = 200
    told.deliver()

    assert told.invoice.automatically_finalizes_at == at
    assert told.after(30 * DAY + 10).status == "open"


def test_a_draft_that_does_not_advance_waits_for_nobody():
    told = Story(500)
    made = told.api.v1.invoices.create({"customer": story.customer(told.api).id})
    told.id = made.id
    told.deliver()
    told.receiver.always = 200

    told.deliver()

    assert told.invoice.automatically_finalizes_at is None
    assert told.after(80 * HOUR).status == "draft"


def test_the_wait_survives_a_restart(tmp_path):
    receiver = Receiver()
    receiver.always = 0
    state = tmp_path / "stripe.sqlite"
    app = StripeApp(state=state, post=receiver)
    app.register_endpoint(URL)
    subscribed = story.subscription(in_process_client(app))
    app.deliveries.deliver_due()
    app.close()

    again = StripeApp(state=state, post=receiver)
    again.advance(2 * HOUR)

    invoice = in_process_client(again).v1.invoices.retrieve(
        str(subscribed.latest_invoice)
    )
    assert invoice.automatically_finalizes_at == invoice.created + LONGEST
    again.close()


def test_a_deleted_draft_and_its_late_delivery_do_no_harm():
    told = Story(500)
    made = told.api.v1.invoices.create({"customer": story.customer(told.api).id})
    told.deliver()
    told.api.v1.invoices.delete(made.id)
    told.receiver.always = 200

    told.deliver()

    assert told.app.deliveries.pending() == 0


def test_a_draft_whose_time_was_set_waits_for_no_endpoint():
    told = Story(500).begin()
    at = told.invoice.created + 2 * HOUR
    told.api.v1.invoices.update(told.id, {"automatically_finalizes_at": at})

    assert told.after(2 * HOUR - 10).status == "draft"
    assert told.after(2 * HOUR + 10).status_transitions.finalized_at == at
