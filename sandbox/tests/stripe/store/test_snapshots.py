"""Snapshots: a restored account equals the saved one, and continues like it."""

import json
import threading

import pytest
import stripe

from sandbox.common.http import Request
from sandbox.stripe.app import StripeApp
from sandbox.stripe.client.in_process import in_process_client
from sandbox.stripe.client.testing import running_sandbox
from sandbox.stripe.control.routes import handle as handle_control
from sandbox.stripe.objects.registry import REGISTRY
from sandbox.stripe.store.snapshots import NoSuchSnapshot
from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.builders import DAY, HOUR
from sandbox.tests.support.stripe.control import control
from sandbox.tests.support.stripe.receiver import Receiver

LISTS = sorted(
    "/" + "/".join(route.segments)
    for resource in REGISTRY.by_name.values()
    for route in resource.routes
    if route.method == "GET" and "{}" not in route.segments
)


@pytest.fixture
def receiver():
    return Receiver()


@pytest.fixture
def app(receiver):
    app = StripeApp(seed=5, post=receiver)
    app.register_endpoint("http://127.0.0.1:1/")
    return app


@pytest.fixture
def api(app):
    return in_process_client(app)


def get(app, path, query="limit=100"):
    """Return the body of a response without its `error`, which has a request id."""
    headers = {"authorization": "Bearer sk_test_x"}
    body = json.loads(app.handle(Request("GET", path, query, headers)).body)
    return {name: value for name, value in body.items() if name != "error"}


def everything(app):
    """Return every list of the API, including nested lists."""
    lists = {path: get(app, path) for path in LISTS}
    nested = [
        get(app, f"/v1/{path.format(record['id'])}")
        for kind, path in (
            ("invoices", "invoices/{}/lines"),
            ("customers", "customers/{}/balance_transactions"),
        )
        for record in lists[f"/v1/{kind}"]["data"]
    ]
    subscriptions = get(app, "/v1/subscriptions", "status=all&limit=100")
    return lists, nested, subscriptions


def create_objects(api):
    """Create objects of many types; return the subscription."""
    subscription = builders.subscription(
        api, builders.price(api), builders.price(api, 250)
    )
    invoice = builders.first_invoice(api, subscription)
    api.v1.customers.balance_transactions.create(
        str(subscription.customer), {"amount": -500, "currency": "usd"}
    )
    api.v1.invoices.pay(invoice.id, {"paid_out_of_band": True})
    item = subscription.items.data[0].id
    api.v1.subscriptions.update(
        subscription.id,
        {"items": [{"id": item, "quantity": 4}], "metadata": {"a": "b"}},
    )
    api.v1.customers.delete(builders.customer(api).id)
    return subscription


def test_list_endpoints_are_found_in_the_registry():
    assert "/v1/customers" in LISTS
    assert "/v1/events" in LISTS
    assert len(LISTS) >= 8


def test_compared_lists_are_not_empty(app, api):
    create_objects(api)

    lists, nested, subscriptions = everything(app)

    for path in ("customers", "events", "invoices", "prices", "subscriptions"):
        assert lists[f"/v1/{path}"]["data"]
    assert any(page["data"] for page in nested)
    assert subscriptions["data"]


def test_restore_brings_back_every_list(app, api):
    create_objects(api)
    app.snapshot("before")
    before = everything(app)

    create_objects(api)
    app.advance(70 * DAY)
    for subscription in api.v1.subscriptions.list().data:
        api.v1.subscriptions.cancel(subscription.id)
    assert everything(app) != before
    app.restore("before")

    assert everything(app) == before


def test_restore_brings_back_every_record_in_order(app, api):
    create_objects(api)
    app.snapshot("before")
    before = app.store.dump()

    create_objects(api)
    app.restore("before")

    rows, next_seq = app.store.dump()
    without_clock = [row for row in rows if row.kind != "_clock"]
    assert without_clock == [row for row in before[0] if row.kind != "_clock"]
    assert next_seq - before[1] in (0, 1)


def test_same_actions_after_restore_have_the_same_results(app, api, monkeypatch):
    now = app.clock.now()
    monkeypatch.setattr("sandbox.stripe.clock.clock.time.time", lambda: now)
    create_objects(api)
    app.snapshot("before")

    outcomes = []
    for _ in range(2):
        create_objects(api)
        app.advance(40 * DAY)
        outcomes.append(everything(app))
        app.restore("before")

    assert outcomes[0] == outcomes[1]


def test_restore_sets_the_clock_back(app, api):
    app.advance(10 * DAY)
    app.snapshot("then")
    saved_at = app.clock.now()
    app.advance(100 * DAY)

    assert app.restore("then") == saved_at
    assert builders.customer(api).created - saved_at in range(60)


def test_timers_run_again_after_restore(app, api):
    subscription = builders.subscription(api)
    app.snapshot("before")
    app.advance(40 * DAY)
    app.restore("before")

    app.advance(HOUR + 10)

    invoices = api.v1.invoices.list({"subscription": subscription.id}).data
    assert [invoice.status for invoice in invoices] == ["open"]


def test_restore_brings_back_idempotent_responses(app, api):
    first = api.v1.customers.create({"name": "A"}, builders.with_key("before"))
    app.snapshot("before")
    after = api.v1.customers.create({"name": "B"}, builders.with_key("after"))
    app.restore("before")

    assert (
        api.v1.customers.create({"name": "A"}, builders.with_key("before")).id
        == first.id
    )
    recreated = api.v1.customers.create({"name": "C"}, builders.with_key("after"))
    assert "Idempotent-Replayed" not in recreated.last_response.headers
    assert after.name == "B"


def test_restore_brings_back_settings_and_pause_and_clears_faults(app, api):
    app.change_settings({"after_last_retry": "unpaid"})
    app.deliveries.paused = True
    app.snapshot("before")
    app.change_settings({"after_last_retry": "canceled"})
    app.deliveries.paused = False
    for path, kind in (("faults", "reset"), ("webhooks/faults", "drop")):
        body = json.dumps({"kind": kind, "times": None}).encode()
        request = Request("POST", f"/_sandbox/{path}", body=body)
        assert handle_control(app, request).status == 200

    app.restore("before")

    assert app.change_settings({}).after_last_retry == "unpaid"
    assert app.deliveries.paused
    assert app.faults.list() == app.webhook_faults.list() == []


def test_undelivered_events_are_delivered_again_after_restore(app, api, receiver):
    builders.customer(api, name="a")
    app.snapshot("before")
    app.deliveries.deliver_due()
    app.restore("before")

    assert app.deliveries.pending() == 1
    app.deliveries.deliver_due()
    assert receiver.names() == ["a", "a"]


def test_delivery_in_flight_during_restore_does_not_acknowledge_the_event():
    reached, release = threading.Event(), threading.Event()

    def post(url, body, headers):
        reached.set()
        release.wait(60)
        return 200

    with running_sandbox(webhook_url="http://127.0.0.1:1/", post=post) as sandbox:
        sandbox.pause_webhooks()
        builders.customer(in_process_client(sandbox.app))
        sandbox.snapshot()
        sandbox.pause_webhooks(False)
        assert reached.wait(60)
        sandbox.restore()
        release.set()
        assert sandbox.app.deliveries.wait_until_idle(60)

        [event] = in_process_client(sandbox.app).v1.events.list().data

        assert event.pending_webhooks == 1
        assert sandbox.app.deliveries.pending() == 1


def test_snapshots_and_restored_state_survive_a_restart(tmp_path):
    state = tmp_path / "stripe.sqlite"
    app = StripeApp(state=state, seed=5)
    create_objects(in_process_client(app))
    app.snapshot("before")
    next_id, before = app.ids.new("evt"), everything(app)
    builders.customer(in_process_client(app))
    app.close()

    restarted = StripeApp(state=state)
    assert [snapshot["name"] for snapshot in restarted.snapshots.list()] == ["before"]
    restarted.restore("before")
    assert everything(restarted) == before
    restarted.restore("before")
    assert restarted.ids.new("evt") == next_id
    restarted.close()

    restarted_again = StripeApp(state=state)
    assert everything(restarted_again) == before
    restarted_again.close()


def test_snapshot_with_the_same_name_is_replaced(app, api):
    app.snapshot("here")
    app.snapshot("there")
    builders.customer(api)
    app.snapshot("here")

    assert [snapshot["name"] for snapshot in app.snapshots.list()] == ["there", "here"]
    app.restore("there")
    assert api.v1.customers.list().data == []
    app.restore("here")
    assert len(api.v1.customers.list().data) == 1


def test_reset_keeps_snapshots(app, api):
    builders.customer(api)
    app.snapshot("before")

    app.reset()
    assert api.v1.customers.list().data == []
    app.restore("before")

    assert len(api.v1.customers.list().data) == 1


def test_restoring_an_unknown_snapshot_raises(app, api):
    builders.customer(api)

    with pytest.raises(NoSuchSnapshot):
        app.restore("before")

    assert len(api.v1.customers.list().data) == 1


def test_snapshots_work_over_the_control_api(stripe_sandbox):
    transport = stripe.RequestsClient(timeout=60)
    api = stripe_sandbox.client(http_client=transport)
    builders.customer(api)
    control(stripe_sandbox, "DELETE", "snapshots")

    status, saved = control(stripe_sandbox, "POST", "snapshot", {"name": "one"})
    builders.customer(api)
    _, listed = control(stripe_sandbox, "GET", "snapshots")
    _, state = control(stripe_sandbox, "POST", "restore", {"name": "one"})
    missing, _ = control(stripe_sandbox, "POST", "restore", {"name": "two"})
    _, cleared = control(stripe_sandbox, "DELETE", "snapshots")
    transport.close()

    assert (status, saved["name"], saved["objects"]) == (200, "one", 2)
    assert listed == {"data": [saved]}
    assert state["objects"] == {"customer": 1, "event": 1}
    assert missing == 404
    assert cleared == {"data": []}
