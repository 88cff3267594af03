"""Faults of webhook deliveries, resending events, and advancing with delivery."""

import json
import threading
from typing import Any

import pytest
import stripe

from sandbox.stripe.app import StripeApp
from sandbox.stripe.client.in_process import in_process_client
from sandbox.stripe.client.testing import running_sandbox
from sandbox.stripe.webhooks.faults import WebhookFault
from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.builders import DAY, HOUR
from sandbox.tests.support.stripe.control import control
from sandbox.tests.support.stripe.receiver import Receiver

URL = "http://127.0.0.1:1/"


class Account:
    """App without threads, with a client and a webhook endpoint."""

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
        return [builders.customer(self.api, name=name).id for name in names]

    def deliver(self):
        """Deliver everything due; return the names in all received events."""
        self.app.deliveries.deliver_due()
        return self.receiver.names()

    def events(self, **params: Any):
        filters: Any = {"limit": 100, **params}
        return self.api.v1.events.list(filters).data


@pytest.fixture
def account():
    return Account()


def test_dropped_event_never_arrives_and_stays_pending(account):
    account.fault("drop")

    account.create("a", "b")

    assert account.deliver() == ["b"]
    [dropped] = account.events(delivery_success=False)
    assert (dropped.data.object.name, dropped.pending_webhooks) == ("a", 1)
    assert account.app.deliveries.pending() == 0


def test_duplicated_event_arrives_twice(account):
    account.fault("duplicate")

    account.create("a", "b")

    assert account.deliver() == ["a", "a", "b"]
    ids = [event["id"] for event in account.receiver.events]
    assert ids[0] == ids[1]
    assert [event.pending_webhooks for event in account.events()] == [0, 0]


def test_reordered_event_arrives_after_the_next_event(account):
    account.fault("reorder")

    account.create("a")
    assert account.deliver() == []
    account.create("b", "c")

    assert account.deliver() == ["b", "a", "c"]


def test_reordered_event_without_a_successor_arrives_after_its_timeout(account):
    account.fault("reorder", seconds=60)
    account.create("a")

    account.app.advance(30)
    assert account.deliver() == []
    account.app.advance(35)

    assert account.deliver() == ["a"]


def test_reordered_event_waits_for_a_successful_delivery(account):
    account.fault("reorder")
    account.create("a", "b")
    account.receiver.statuses = [500]

    assert account.deliver() == ["b", "b", "a"]


def test_delayed_event_arrives_after_its_delay_on_the_sandbox_clock(account):
    account.fault("delay", seconds=DAY)

    account.create("a", "b")
    assert account.deliver() == ["b"]
    account.app.advance(DAY - 60)
    assert account.deliver() == ["b"]
    account.app.advance(120)

    assert account.deliver() == ["b", "a"]


@pytest.mark.parametrize(
    ("type", "dropped"),
    [
        ("*", ["customer.created", "product.created", "price.created"]),
        ("p*", ["product.created", "price.created"]),
        ("price.*", ["price.created"]),
        ("price.created", ["price.created"]),
        ("price", []),
    ],
)
def test_fault_applies_to_matching_event_types(account, type, dropped):
    account.fault("drop", type, times=None)

    account.create("a")
    builders.price(account.api)
    account.deliver()

    undelivered = [event.type for event in account.events(delivery_success=False)]
    assert undelivered[::-1] == dropped


def test_fault_applies_to_the_next_events_until_used_up(account):
    account.create("before")
    fault = account.fault("drop", times=2)

    account.create("a", "b", "c")

    assert account.deliver() == ["before", "c"]
    assert fault.hits == 2
    assert account.app.webhook_faults.list() == []


def test_cleared_fault_does_not_apply(account):
    account.fault("drop", times=None)
    account.create("a")

    account.app.webhook_faults.clear()
    account.create("b")

    assert account.deliver() == ["b"]


def test_faults_with_chance_are_repeatable_with_a_seed():
    def delivered(seed):
        account = Account(seed)
        account.fault("drop", times=None, chance=0.4)
        account.fault("reorder", times=None, chance=0.3)
        account.create(*(str(number) for number in range(60)))
        return account.deliver()

    first = delivered(3)

    assert delivered(3) == first
    assert delivered(4) != first
    assert 15 < len(first) < 55
    assert first != sorted(first, key=int)


def test_fault_applies_to_each_endpoint_separately(account):
    account.api.v1.webhook_endpoints.create(
        {"url": "http://127.0.0.1:2/", "enabled_events": ["customer.created"]}
    )
    account.fault("drop")

    account.create("a")

    assert account.deliver() == ["a"]
    assert account.events()[0].pending_webhooks == 1


def test_failed_request_does_not_use_up_a_fault(account):
    [name] = account.create("a")
    account.api.v1.customers.update(name, {"phone": "1"})
    account.fault("drop")

    with pytest.raises(stripe.InvalidRequestError):
        account.api.v1.customers.delete("cus_x")
    with pytest.raises(stripe.InvalidRequestError):
        account.api.v1.subscriptions.create(
            {"customer": name, "items": [{"price": "price_x"}]}
        )

    assert [fault["hits"] for fault in account.app.webhook_faults.list()] == [0]


def test_faults_apply_to_events_created_while_paused(account):
    account.app.deliveries.paused = True
    account.fault("duplicate", times=None)
    account.create("a", "b")

    assert account.deliver() == []
    account.app.deliveries.paused = False

    assert account.deliver() == ["a", "a", "b", "b"]


def test_delayed_delivery_stays_delayed_after_a_restart(tmp_path):
    state = tmp_path / "stripe.sqlite"
    account = Account(state=state)
    account.fault("delay", seconds=DAY)
    account.create("a", "b")
    account.app.close()

    restarted = Account(state=state)

    assert restarted.deliver() == ["b"]
    restarted.app.advance(DAY + 10)
    assert restarted.deliver() == ["b", "a"]
    restarted.app.close()


def test_delivery_thread_sends_reordered_and_delayed_events():
    receiver = Receiver()
    with running_sandbox(webhook_url=URL, post=receiver) as sandbox:
        api = in_process_client(sandbox.app)
        sandbox.webhook_fault("delay", seconds=HOUR)
        sandbox.webhook_fault("reorder", "product.*")
        builders.customer(api, name="late")
        api.v1.products.create({"name": "overtaken"})
        api.v1.products.create({"name": "on time"})
        assert sandbox.app.deliveries.wait_until_idle(60)
        assert receiver.names() == ["on time", "overtaken"]

        sandbox.advance(HOUR + 1, deliver=True)

    assert receiver.names() == ["on time", "overtaken", "late"]


def test_delay_elapses_in_real_time_without_advancing_the_clock():
    receiver, arrived = Receiver(), threading.Event()

    def post(url, body, headers):
        status = receiver(url, body, headers)
        arrived.set()
        return status

    with running_sandbox(webhook_url=URL, post=post) as sandbox:
        sandbox.webhook_fault("delay", seconds=1)
        builders.customer(in_process_client(sandbox.app), name="a")

        assert arrived.wait(60)


def test_webhook_faults_work_over_the_control_api(stripe_sandbox, api):
    path = "webhooks/faults"
    status, added = control(
        stripe_sandbox, "POST", path, {"kind": "delay", "type": "a.*", "seconds": 5}
    )
    _, listed = control(stripe_sandbox, "GET", path)
    _, state = control(stripe_sandbox, "GET", "state")
    _, cleared = control(stripe_sandbox, "DELETE", path)

    assert status == 200
    assert added == {
        "id": "webhook_fault_1",
        "kind": "delay",
        "type": "a.*",
        "times": 1,
        "seconds": 5,
        "chance": 1.0,
        "hits": 0,
    }
    assert listed == {"data": [added]}
    assert state["webhook_faults"] == 1
    assert cleared == {"data": []}
    assert stripe_sandbox.app.webhook_faults.list() == []


def test_dropped_event_can_be_resent(account):
    account.fault("drop")
    account.create("a", "b")
    account.deliver()
    [dropped] = account.events(delivery_success=False)

    assert account.app.redeliver(dropped.id) == 1

    assert account.deliver() == ["b", "a"]
    assert account.events(delivery_success=False) == []


def test_delivered_event_can_be_resent(account):
    account.create("a")
    account.deliver()
    event = account.events()[0]

    account.app.redeliver(event.id, account.endpoint)

    assert account.deliver() == ["a", "a"]
    assert account.events()[0].pending_webhooks == 0


def test_resending_a_delayed_event_delivers_it_at_once(account):
    account.fault("delay", seconds=DAY)
    account.create("a")

    account.app.redeliver(account.events()[0].id)

    assert account.deliver() == ["a"]
    account.app.advance(2 * DAY)
    assert account.deliver() == ["a"]


def test_event_is_resent_to_enabled_endpoints_registered_for_its_type(account):
    other = account.api.v1.webhook_endpoints.create(
        {"url": URL, "enabled_events": ["price.created"]}
    )
    disabled = account.api.v1.webhook_endpoints.create(
        {"url": URL, "enabled_events": ["*"]}
    )
    account.api.v1.webhook_endpoints.update(disabled.id, {"disabled": True})
    account.create("a")
    event = account.events()[0].id

    assert account.app.redeliver(event) == 1
    assert account.app.redeliver(event, other.id) == 0
    with pytest.raises(KeyError):
        account.app.redeliver("evt_x")


def test_resending_to_one_endpoint_does_not_acknowledge_the_other(account):
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


def test_resending_works_over_the_control_api(stripe_sandbox, api):
    builders.customer(api)
    event = api.v1.events.list().data[0].id

    status, response = control(stripe_sandbox, "POST", f"events/{event}/redeliver", {})

    assert (status, response) == (200, {"event": event, "deliveries": 0})


def test_advance_with_delivery_delivers_events_at_their_own_time():
    # A receiver that reacts must do so at that time, not after the whole advance.
    receiver, delays = Receiver(), []

    def post(url, body, headers):
        delays.append(sandbox.now() - json.loads(body)["created"])
        return receiver(url, body, headers)

    with running_sandbox(webhook_url=URL, post=post) as sandbox:
        api = in_process_client(sandbox.app)
        subscription = builders.subscription(api)

        def finalize_invoices():
            while receiver.events:
                event = receiver.events.pop(0)
                if event["type"] == "invoice.created":
                    api.v1.invoices.finalize_invoice(event["data"]["object"]["id"])

        sandbox.advance(70 * DAY, deliver=True, then=finalize_invoices)
        invoices = api.v1.invoices.list({"subscription": subscription.id}).data

    assert len(delays) > 12
    assert max(delays) < 60
    assert len(invoices) == 3
    for invoice in invoices:
        assert (
            invoice.status_transitions.finalized_at or 0
        ) - invoice.created in range(60)


def test_advance_with_delivery_stops_waiting_after_the_timeout():
    release = threading.Event()

    def block(url, body, headers):
        release.wait(60)
        return 200

    with running_sandbox(webhook_url=URL, post=block) as sandbox:
        builders.subscription(in_process_client(sandbox.app))
        before = sandbox.now()

        after = sandbox.app.advance(70 * DAY, deliver=True, timeout=0.1)
        release.set()

    assert 0 <= after - before - 70 * DAY < 60
