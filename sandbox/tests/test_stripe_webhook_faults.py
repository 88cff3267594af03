"""Deliveries that are dropped, doubled, overtaken or late, and those sent again."""

import json
import threading
from typing import Any

import pytest
import stripe

from sandbox.stripe.app import StripeApp
from sandbox.stripe.testing import running_sandbox
from sandbox.stripe.transport import in_process_client
from sandbox.stripe.webhook_faults import WebhookFault
from sandbox.tests.support import stripe_builders as story
from sandbox.tests.support.stripe_builders import DAY, HOUR
from sandbox.tests.support.stripe_receiver import Receiver
from sandbox.tests.test_stripe_faults import control

URL = "http://127.0.0.1:1/"


class Account:
    """An app without threads, its client and the endpoint it delivers to."""

    def __init__(self, seed=1, **options):
        self.receiver = Receiver()
        self.app = StripeApp(
            seed=seed, post=self.receiver, retry_delays=(0.0,), **options
        )
        self.api = in_process_client(self.app)
        self.endpoint = self.app.register_endpoint(URL)["id"]

    def fault(self, kind, type="*", **options):
        return self.app.webhook_faults.add(WebhookFault(kind, type, **options))

    def create(self, *names):
        return [story.customer(self.api, name=name).id for name in names]

    def deliver(self):
        """Deliver what is due; return the names that have arrived so far."""
        self.app.deliveries.deliver_due()
        return self.receiver.names()

    def events(self, **params: Any):
        wanted: Any = {"limit": 100, **params}
        return self.api.v1.events.list(wanted).data


@pytest.fixture
def account():
    return Account()


def test_a_dropped_event_never_arrives_and_stays_undelivered(account):
    account.fault("drop")

    account.create("a", "b")

    assert account.deliver() == ["b"]
    [lost] = account.events(delivery_success=False)
    assert (lost.data.object.name, lost.pending_webhooks) == ("a", 1)
    assert account.app.deliveries.pending() == 0


def test_a_doubled_event_arrives_twice(account):
    account.fault("duplicate")

    account.create("a", "b")

    assert account.deliver() == ["a", "a", "b"]
    ids = [event["id"] for event in account.receiver.events]
    assert ids[0] == ids[1]
    assert [event.pending_webhooks for event in account.events()] == [0, 0]


def test_a_reordered_event_arrives_after_the_next(account):
    account.fault("reorder")

    account.create("a")
    assert account.deliver() == []
    account.create("b", "c")

    assert account.deliver() == ["b", "a", "c"]


def test_a_reordered_event_that_nothing_overtakes_arrives_in_the_end(account):
    account.fault("reorder", seconds=60)
    account.create("a")

    account.app.advance(50)
    assert account.deliver() == []
    account.app.advance(15)

    assert account.deliver() == ["a"]


def test_only_an_event_that_arrived_overtakes(account):
    account.fault("reorder")
    account.create("a", "b")
    account.receiver.statuses = [500]

    assert account.deliver() == ["b", "b", "a"]


def test_a_delayed_event_arrives_when_the_clock_says_so(account):
    account.fault("delay", seconds=DAY)

    account.create("a", "b")
    assert account.deliver() == ["b"]
    account.app.advance(DAY - 10)
    assert account.deliver() == ["b"]
    account.app.advance(20)

    assert account.deliver() == ["b", "a"]


@pytest.mark.parametrize(
    ("type", "lost"),
    [
        ("*", ["customer.created", "product.created", "price.created"]),
        ("p*", ["product.created", "price.created"]),
        ("price.*", ["price.created"]),
        ("price.created", ["price.created"]),
        ("price", []),
    ],
)
def test_a_fault_is_for_events_of_a_type(account, type, lost):
    account.fault("drop", type, times=None)

    account.create("a")
    story.price(account.api)
    account.deliver()

    undelivered = [event.type for event in account.events(delivery_success=False)]
    assert undelivered[::-1] == lost


def test_a_fault_strikes_as_often_as_it_says_and_only_what_comes_after_it(account):
    account.create("before")
    fault = account.fault("drop", times=2)

    account.create("a", "b", "c")

    assert account.deliver() == ["before", "c"]
    assert fault.hits == 2
    assert account.app.webhook_faults.list() == []


def test_a_cleared_fault_strikes_no_more(account):
    account.fault("drop", times=None)
    account.create("a")

    account.app.webhook_faults.clear()
    account.create("b")

    assert account.deliver() == ["b"]


def test_which_are_struck_by_chance_is_the_seeds_to_say():
    def survivors(seed):
        account = Account(seed)
        account.fault("drop", times=None, chance=0.4)
        account.fault("reorder", times=None, chance=0.3)
        account.create(*(str(number) for number in range(60)))
        return account.deliver()

    first = survivors(3)

    assert survivors(3) == first
    assert survivors(4) != first
    assert 15 < len(first) < 55
    assert first != sorted(first, key=int)


def test_every_endpoint_is_struck_by_itself(account):
    account.api.v1.webhook_endpoints.create(
        {"url": "http://127.0.0.1:2/", "enabled_events": ["customer.created"]}
    )
    account.fault("drop")

    account.create("a")

    assert account.deliver() == ["a"]
    assert account.events()[0].pending_webhooks == 1


def test_a_failed_request_uses_no_fault_up(account):
    [name] = account.create("a")
    account.api.v1.customers.update(name, {"invoice_prefix": "AAA"})
    account.fault("drop")

    with pytest.raises(stripe.InvalidRequestError):
        account.api.v1.customers.delete("cus_x")
    with pytest.raises(stripe.InvalidRequestError):
        account.api.v1.subscriptions.create(
            {"customer": name, "items": [{"price": "price_x"}]}
        )

    assert [fault["hits"] for fault in account.app.webhook_faults.list()] == [0]


def test_faults_and_pausing_go_together(account):
    account.app.deliveries.settings.paused = True
    account.fault("duplicate", times=None)
    account.create("a", "b")

    assert account.deliver() == []
    account.app.deliveries.settings.paused = False

    assert account.deliver() == ["a", "a", "b", "b"]


def test_what_is_held_back_is_held_back_after_a_restart(tmp_path):
    state = tmp_path / "stripe.sqlite"
    account = Account(state=state)
    account.fault("delay", seconds=DAY)
    account.create("a", "b")
    account.app.close()

    again = Account(state=state)

    assert again.deliver() == ["b"]
    again.app.advance(DAY + 10)
    assert again.deliver() == ["b", "a"]
    again.app.close()


def test_the_thread_delivers_what_was_held_back():
    receiver = Receiver()
    with running_sandbox(webhook_url=URL, post=receiver) as sandbox:
        api = in_process_client(sandbox.app)
        sandbox.webhook_fault("delay", seconds=HOUR)
        sandbox.webhook_fault("reorder", "product.*")
        story.customer(api, name="late")
        api.v1.products.create({"name": "overtaken"})
        api.v1.products.create({"name": "on time"})
        assert sandbox.app.deliveries.wait_until_idle(10)
        assert receiver.names() == ["on time", "overtaken"]

        sandbox.advance(HOUR + 1, deliver=True)

    assert receiver.names() == ["on time", "overtaken", "late"]


def test_a_delay_passes_by_itself_in_real_time():
    receiver, arrived = Receiver(), threading.Event()

    def post(url, body, headers):
        status = receiver(url, body, headers)
        arrived.set()
        return status

    with running_sandbox(webhook_url=URL, post=post) as sandbox:
        sandbox.webhook_fault("delay", seconds=1)
        story.customer(in_process_client(sandbox.app), name="a")

        assert arrived.wait(10)


def test_faults_are_asked_for_over_http(stripe_sandbox, api):
    path = "webhooks/faults"
    status, made = control(
        stripe_sandbox, "POST", path, {"kind": "delay", "type": "a.*", "seconds": 5}
    )
    _, listed = control(stripe_sandbox, "GET", path)
    _, state = control(stripe_sandbox, "GET", "state")
    _, cleared = control(stripe_sandbox, "DELETE", path)

    assert status == 200
    assert made == {
        "id": "webhook_fault_1",
        "kind": "delay",
        "type": "a.*",
        "times": 1,
        "seconds": 5,
        "chance": 1.0,
        "hits": 0,
    }
    assert listed == {"data": [made]}
    assert state["webhook_faults"] == 1
    assert cleared == {"data": []}
    assert stripe_sandbox.app.webhook_faults.list() == []


def test_a_lost_event_is_sent_again_on_demand(account):
    account.fault("drop")
    account.create("a", "b")
    account.deliver()
    [lost] = account.events(delivery_success=False)

    assert account.app.redeliver(lost.id) == 1

    assert account.deliver() == ["b", "a"]
    assert account.events(delivery_success=False) == []


def test_an_event_that_arrived_is_sent_again_all_the_same(account):
    account.create("a")
    account.deliver()
    event = account.events()[0]

    account.app.redeliver(event.id, account.endpoint)

    assert account.deliver() == ["a", "a"]
    assert account.events()[0].pending_webhooks == 0


def test_sending_again_ends_a_delay(account):
    account.fault("delay", seconds=DAY)
    account.create("a")

    account.app.redeliver(account.events()[0].id)

    assert account.deliver() == ["a"]
    account.app.advance(2 * DAY)
    assert account.deliver() == ["a"]


def test_an_event_is_sent_again_only_to_who_wants_it(account):
    other = account.api.v1.webhook_endpoints.create(
        {"url": URL, "enabled_events": ["price.created"]}
    )
    off = account.api.v1.webhook_endpoints.create({"url": URL, "enabled_events": ["*"]})
    account.api.v1.webhook_endpoints.update(off.id, {"disabled": True})
    account.create("a")
    event = account.events()[0].id

    assert account.app.redeliver(event) == 1
    assert account.app.redeliver(event, other.id) == 0
    with pytest.raises(KeyError):
        account.app.redeliver("evt_x")


def test_one_endpoint_that_takes_it_again_does_not_stand_for_the_other(account):
    account.fault("drop", "customer.created")
    other = account.api.v1.webhook_endpoints.create(
        {"url": "http://127.0.0.1:2/", "enabled_events": ["*"]}
    )
    account.create("a")
    account.deliver()
    event = account.events(type="customer.created")[0].id

    account.app.redeliver(event, other.id)
    account.deliver()

    assert account.events(type="customer.created")[0].pending_webhooks == 1


def test_sending_again_works_over_http(stripe_sandbox, api):
    story.customer(api)
    event = api.v1.events.list().data[0].id

    status, answer = control(stripe_sandbox, "POST", f"events/{event}/redeliver", {})

    assert (status, answer) == (200, {"event": event, "deliveries": 0})


def test_events_arrive_at_the_time_they_happen():
    """So that what a receiver does about them happens then, not at the end."""
    receiver, late = Receiver(), []

    def post(url, body, headers):
        late.append(sandbox.now() - json.loads(body)["created"])
        return receiver(url, body, headers)

    with running_sandbox(webhook_url=URL, post=post) as sandbox:
        api = in_process_client(sandbox.app)
        subscribed = story.subscription(api)

        def react():
            while receiver.events:
                event = receiver.events.pop(0)
                if event["type"] == "invoice.created":
                    api.v1.invoices.finalize_invoice(event["data"]["object"]["id"])

        sandbox.advance(70 * DAY, deliver=True, then=react)
        invoices = api.v1.invoices.list({"subscription": subscribed.id}).data

    assert len(late) > 12
    assert max(late) <= 3
    assert len(invoices) == 3
    for one in invoices:
        assert (one.status_transitions.finalized_at or 0) - one.created in range(4)


def test_a_receiver_that_hangs_is_waited_for_only_so_long():
    release = threading.Event()

    def hang(url, body, headers):
        release.wait(20)
        return 200

    with running_sandbox(webhook_url=URL, post=hang) as sandbox:
        story.subscription(in_process_client(sandbox.app))
        before = sandbox.now()

        after = sandbox.app.advance(70 * DAY, deliver=True, timeout=0.1)
        release.set()

    assert 0 <= after - before - 70 * DAY <= 5
