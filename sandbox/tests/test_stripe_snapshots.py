"""Snapshots: everything as it was, and everything goes on as it would have."""

import json
import threading

import pytest
import stripe

from sandbox.stripe.app import StripeApp
from sandbox.stripe.control import handle as handle_control
from sandbox.stripe.objects.registry import REGISTRY
from sandbox.stripe.protocol.http import Request
from sandbox.stripe.snapshots import NoSuchSnapshot
from sandbox.stripe.testing import running_sandbox
from sandbox.stripe.transport import in_process_client
from sandbox.tests.support import stripe_builders as story
from sandbox.tests.support.stripe_builders import DAY, HOUR
from sandbox.tests.support.stripe_receiver import Receiver
from sandbox.tests.test_stripe_faults import control
from sandbox.tests.test_stripe_idempotency import keyed

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
    """Return the body of an answer, without the request's id that errors carry."""
    headers = {"authorization": "Bearer sk_test_x"}
    body = json.loads(app.handle(Request("GET", path, query, headers)).body)
    return {name: value for name, value in body.items() if name != "error"}


def everything(app):
    """Return what every list of the API shows, and the lists below objects."""
    lists = {path: get(app, path) for path in LISTS}
    below = [
        get(app, f"/v1/{path.format(one['id'])}")
        for kind, path in (
            ("invoices", "invoices/{}/lines"),
            ("customers", "customers/{}/balance_transactions"),
        )
        for one in lists[f"/v1/{kind}"]["data"]
    ]
    items = [
        get(app, "/v1/subscription_items", f"subscription={one['id']}")
        for one in get(app, "/v1/subscriptions", "status=all&limit=100")["data"]
    ]
    return lists, below, items


def live(api):
    """Let a good deal happen; return the subscription it is about."""
    subscribed = story.subscription(api, story.price(api), story.price(api, 250))
    invoice = story.first_invoice(api, subscribed)
    api.v1.customers.balance_transactions.create(
        str(subscribed.customer), {"amount": -500, "currency": "usd"}
    )
    api.v1.invoices.pay(invoice.id, {"paid_out_of_band": True})
    item = subscribed.items.data[0].id
    api.v1.subscriptions.update(
        subscribed.id, {"items": [{"id": item, "quantity": 4}], "metadata": {"a": "b"}}
    )
    api.v1.customers.delete(story.customer(api).id)
    return subscribed


def test_the_lists_of_the_api_are_known():
    assert "/v1/customers" in LISTS
    assert "/v1/events" in LISTS
    assert len(LISTS) >= 8


def test_there_is_something_to_compare(app, api):
    live(api)

    lists, below, items = everything(app)

    for path in ("customers", "events", "invoices", "prices", "subscriptions"):
        assert lists[f"/v1/{path}"]["data"]
    assert any(one["data"] for one in below)
    assert any(one["data"] for one in items)


def test_every_list_is_as_it_was(app, api):
    live(api)
    app.snapshot("before")
    before = everything(app)

    live(api)
    app.advance(70 * DAY)
    for one in api.v1.subscriptions.list().data:
        api.v1.subscriptions.cancel(one.id)
    assert everything(app) != before
    app.restore("before")

    assert everything(app) == before


def test_the_records_are_as_they_were_to_the_last_field_and_in_order(app, api):
    live(api)
    app.snapshot("before")
    before = app.store.dump()

    live(api)
    app.restore("before")

    rows, next_seq = app.store.dump()
    without_clock = [row for row in rows if row.kind != "_clock"]
    assert without_clock == [row for row in before[0] if row.kind != "_clock"]
    assert next_seq - before[1] in (0, 1)


def test_what_comes_after_is_what_would_have_come(app, api, monkeypatch):
    monkeypatch.setattr("sandbox.stripe.clock.time.time", lambda: 1_800_000_000)
    live(api)
    app.snapshot("before")

    told = []
    for _ in range(2):
        live(api)
        app.advance(40 * DAY)
        told.append(everything(app))
        app.restore("before")

    assert told[0] == told[1]


def test_time_goes_back(app, api):
    app.advance(10 * DAY)
    app.snapshot("then")
    then = app.clock.now()
    app.advance(100 * DAY)

    assert app.restore("then") == then
    assert story.customer(api).created - then in range(5)


def test_what_was_due_is_due_again(app, api):
    subscribed = story.subscription(api)
    app.snapshot("before")
    app.advance(40 * DAY)
    app.restore("before")

    app.advance(HOUR + 10)

    invoices = api.v1.invoices.list({"subscription": subscribed.id}).data
    assert [one.status for one in invoices] == ["open"]


def test_the_answers_of_keys_are_as_they_were(app, api):
    first = api.v1.customers.create({"name": "A"}, keyed("kept"))
    app.snapshot("before")
    later = api.v1.customers.create({"name": "B"}, keyed("forgotten"))
    app.restore("before")

    assert api.v1.customers.create({"name": "A"}, keyed("kept")).id == first.id
    again = api.v1.customers.create({"name": "C"}, keyed("forgotten"))
    assert "Idempotent-Replayed" not in again.last_response.headers
    assert later.name == "B"


def test_settings_and_pause_are_as_they_were_and_faults_are_over(app, api):
    app.change_settings({"after_last_retry": "unpaid"})
    app.deliveries.settings.paused = True
    app.snapshot("before")
    app.change_settings({"after_last_retry": "canceled"})
    app.deliveries.settings.paused = False
    for path, kind in (("faults", "reset"), ("webhooks/faults", "drop")):
        body = json.dumps({"kind": kind, "times": None}).encode()
        request = Request("POST", f"/_sandbox/{path}", body=body)
        assert handle_control(app, request, None).status == 200

    app.restore("before")

    assert app.change_settings({}).after_last_retry == "unpaid"
    assert app.deliveries.settings.paused
    assert app.faults.list() == app.webhook_faults.list() == []


def test_what_was_undelivered_is_delivered_again(app, api, receiver):
    story.customer(api, name="a")
    app.snapshot("before")
    app.deliveries.deliver_due()
    app.restore("before")

    assert app.deliveries.pending() == 1
    app.deliveries.deliver_due()
    assert receiver.names() == ["a", "a"]


def test_what_is_under_way_meanwhile_settles_nothing_of_the_past():
    reached, release = threading.Event(), threading.Event()

    def post(url, body, headers):
        reached.set()
        release.wait(10)
        return 200

    with running_sandbox(webhook_url="http://127.0.0.1:1/", post=post) as sandbox:
        sandbox.pause_webhooks()
        story.customer(in_process_client(sandbox.app))
        sandbox.snapshot()
        sandbox.pause_webhooks(False)
        assert reached.wait(10)
        sandbox.restore()
        release.set()
        assert sandbox.app.deliveries.wait_until_idle(10)

        [event] = in_process_client(sandbox.app).v1.events.list().data

        assert event.pending_webhooks == 1
        assert sandbox.app.deliveries.pending() == 1


def test_a_restart_keeps_snapshots_and_what_they_restored(tmp_path):
    state = tmp_path / "stripe.sqlite"
    app = StripeApp(state=state, seed=5)
    live(in_process_client(app))
    app.snapshot("before")
    next_id, before = app.ids.new("evt"), everything(app)
    story.customer(in_process_client(app))
    app.close()

    again = StripeApp(state=state)
    assert [one["name"] for one in again.snapshots.list()] == ["before"]
    again.restore("before")
    assert everything(again) == before
    again.restore("before")
    assert again.ids.new("evt") == next_id
    again.close()

    third = StripeApp(state=state)
    assert everything(third) == before
    third.close()


def test_a_later_snapshot_takes_the_place_of_its_namesake(app, api):
    app.snapshot("here")
    app.snapshot("there")
    story.customer(api)
    app.snapshot("here")

    assert [one["name"] for one in app.snapshots.list()] == ["there", "here"]
    app.restore("there")
    assert api.v1.customers.list().data == []
    app.restore("here")
    assert len(api.v1.customers.list().data) == 1


def test_a_reset_keeps_snapshots(app, api):
    story.customer(api)
    app.snapshot("before")

    app.reset()
    assert api.v1.customers.list().data == []
    app.restore("before")

    assert len(api.v1.customers.list().data) == 1


def test_a_snapshot_nobody_made_is_refused(app, api):
    story.customer(api)

    with pytest.raises(NoSuchSnapshot):
        app.restore("before")

    assert len(api.v1.customers.list().data) == 1


def test_snapshots_work_over_http(stripe_sandbox):
    transport = stripe.RequestsClient(timeout=20)
    api = stripe_sandbox.client(http_client=transport)
    story.customer(api)
    control(stripe_sandbox, "DELETE", "snapshots")

    status, kept = control(stripe_sandbox, "POST", "snapshot", {"name": "one"})
    story.customer(api)
    _, listed = control(stripe_sandbox, "GET", "snapshots")
    _, state = control(stripe_sandbox, "POST", "restore", {"name": "one"})
    missing, _ = control(stripe_sandbox, "POST", "restore", {"name": "two"})
    _, none = control(stripe_sandbox, "DELETE", "snapshots")
    transport.close()

    assert (status, kept["name"], kept["objects"]) == (200, "one", 2)
    assert listed == {"data": [kept]}
    assert state["objects"] == {"customer": 1, "event": 1}
    assert missing == 404
    assert none == {"data": []}
