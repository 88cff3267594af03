"""Events and webhook deliveries."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import stripe

from sandbox.stripe.testing import running_sandbox
from sandbox.tests.support import stripe_builders as story
from sandbox.tests.support.stripe_builders import DAY

SECRET = "whsec_test"


class Receiver(ThreadingHTTPServer):
    """A webhook endpoint that answers with the given statuses, then 200."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Receiving)
        self.statuses = []
        self.got = []
        self.arrived = threading.Condition()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/stripe/webhook"

    def wait_for(self, count):
        """Return the deliveries once there are so many."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.got) >= count, timeout=10)
            return list(self.got)


class Receiving(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.arrived:
            statuses = self.server.statuses
            self.send_response(statuses.pop(0) if statuses else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()
            self.server.got.append((body, self.headers["Stripe-Signature"]))
            self.server.arrived.notify_all()

    def log_message(self, format, *args):
        pass


@pytest.fixture
def receiver():
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def register(api, url, *events):
    return api.v1.webhook_endpoints.create(
        {"url": url, "enabled_events": list(events or ["*"])}
    )


def types_of(got):
    return [json.loads(body)["type"] for body, _ in got]


def wait_until_acknowledged(api, stripe_sandbox):
    pause = threading.Event()
    for _ in range(1_000):
        if not stripe_sandbox.app.deliveries.pending():
            return
        pause.wait(0.01)
    raise AssertionError("deliveries are still pending")


def test_a_subscription_tells_its_life_in_events(api, stripe_sandbox):
    subscribed = story.subscription(api)
    story.first_invoice(api, subscribed)
    api.v1.invoices.pay(subscribed.latest_invoice, {"paid_out_of_band": True})
    api.v1.subscriptions.cancel(subscribed.id)

    assert story.event_types(api) == [
        "customer.created",
        "product.created",
        "price.created",
        "customer.updated",
        "invoice.created",
        "customer.subscription.created",
        "invoice.updated",
        "invoice.finalized",
        "payment_intent.created",
        "invoice.updated",
        "invoice.paid",
        "payment_intent.canceled",
        "customer.subscription.deleted",
    ]


def test_an_event_has_stripes_shape(api):
    made = api.v1.customers.create({"name": "A"}, {"idempotency_key": "k"})

    event = api.v1.events.list().data[0]

    assert event.type == "customer.created"
    assert event.api_version == stripe.api_version
    assert event.data.object.to_dict() == made.to_dict()
    assert (event.request.id, event.request.idempotency_key) == (
        made.last_response.request_id,
        "k",
    )
    assert (event.livemode, event.pending_webhooks) == (False, 0)


def test_what_the_clock_does_has_no_request(api, stripe_sandbox):
    story.subscription(api)

    stripe_sandbox.advance(2 * story.HOUR)

    event = api.v1.events.list({"type": "invoice.finalized"}).data[0]
    assert event.request.to_dict() == {"id": None, "idempotency_key": None}


def test_updates_carry_the_previous_values(api):
    made = story.customer(api, name="A", metadata={"a": "1", "b": "2"})
    api.v1.customers.update(made.id, {"name": "B", "metadata": {"a": "3"}})

    event = api.v1.events.list({"type": "customer.updated"}).data[0]

    assert event.data.previous_attributes.to_dict() == {
        "name": "A",
        "metadata": {"a": "1"},
    }
    assert event.data.object.name == "B"


def test_an_update_that_changes_nothing_is_no_event(api):
    made = story.customer(api, name="A")

    api.v1.customers.update(made.id, {"name": "A"})

    assert story.event_types(api) == ["customer.created"]


def test_events_are_filtered_by_type(api):
    subscribed = story.subscription(api)
    story.first_invoice(api, subscribed)

    def types(**params):
        return [event.type for event in api.v1.events.list(params).data]

    assert types(type="invoice.created") == ["invoice.created"]
    assert types(types=["price.created", "product.created"]) == [
        "price.created",
        "product.created",
    ]
    assert set(types(type="invoice.*")) == {
        "invoice.created",
        "invoice.finalized",
        "invoice.updated",
    }
    with pytest.raises(stripe.InvalidRequestError, match="only specify one"):
        types(type="a", types=["b"])


def test_events_are_kept_for_thirty_days(api, stripe_sandbox):
    story.customer(api)
    old = api.v1.events.list().data[0]

    stripe_sandbox.advance(31 * DAY)

    assert api.v1.events.list().data == []
    with pytest.raises(stripe.InvalidRequestError, match="No such event"):
        api.v1.events.retrieve(old.id)
    story.customer(api)
    assert stripe_sandbox.app.store.count("event") == 1


def test_deliveries_are_signed_and_in_order(api, stripe_sandbox, receiver):
    secret = register(api, receiver.url).secret

    for number in range(5):
        story.customer(api, name=str(number))

    got = receiver.wait_for(5)
    events = [
        stripe.Webhook.construct_event(body, signature, secret)
        for body, signature in got
    ]
    assert [event.data.object.name for event in events] == ["0", "1", "2", "3", "4"]
    assert events[0].pending_webhooks == 1
    wait_until_acknowledged(api, stripe_sandbox)
    assert api.v1.events.retrieve(events[0].id).pending_webhooks == 0


def test_the_secret_is_shown_once(api, receiver):
    endpoint = register(api, receiver.url)

    assert endpoint.secret.startswith("whsec_")
    assert "secret" not in api.v1.webhook_endpoints.retrieve(endpoint.id).to_dict()


def test_an_endpoint_gets_what_it_registered_for(api, stripe_sandbox, receiver):
    endpoint = register(api, receiver.url, "product.created")

    story.price(api)
    got = receiver.wait_for(1)
    api.v1.webhook_endpoints.update(endpoint.id, {"disabled": True})
    story.price(api)

    assert types_of(got) == ["product.created"]
    assert stripe_sandbox.app.deliveries.pending() == 0


def test_a_refused_delivery_is_repeated_until_it_is_accepted(
    api, stripe_sandbox, receiver
):
    receiver.statuses = [500, 404]
    register(api, receiver.url)

    story.customer(api)

    got = receiver.wait_for(3)
    assert len({json.loads(body)["id"] for body, _ in got}) == 1
    wait_until_acknowledged(api, stripe_sandbox)
    delivered = api.v1.events.list({"delivery_success": True})
    assert delivered.data[0].pending_webhooks == 0


def test_a_refused_delivery_does_not_hold_the_others_up(api, stripe_sandbox, receiver):
    stripe_sandbox.pause_webhooks()
    receiver.statuses = [500]
    register(api, receiver.url)
    for number in range(3):
        story.customer(api, name=str(number))

    stripe_sandbox.pause_webhooks(False)

    names = [
        json.loads(body)["data"]["object"]["name"] for body, _ in receiver.wait_for(4)
    ]
    assert names[0] == "0"
    assert sorted(names) == ["0", "0", "1", "2"]
    assert names.index("1") < names.index("2")


def test_pending_deliveries_are_counted_while_paused(api, stripe_sandbox, receiver):
    register(api, receiver.url)
    stripe_sandbox.pause_webhooks()

    story.customer(api)

    event = api.v1.events.list({"delivery_success": False}).data[0]
    assert event.pending_webhooks == 1
    assert receiver.got == []
    stripe_sandbox.pause_webhooks(False)
    receiver.wait_for(1)


def test_an_unreachable_endpoint_gets_everything_in_order_later():
    up = threading.Event()
    got = []

    def post(url, body, headers):
        if not up.is_set():
            raise ConnectionRefusedError
        got.append(json.loads(body)["data"]["object"]["name"])
        return 200

    with running_sandbox(
        webhook_url="http://127.0.0.1:1/", post=post, retry_delays=(0.01,)
    ) as sandbox:
        transport = stripe.RequestsClient(timeout=20)
        api = sandbox.client(http_client=transport)
        for number in range(4):
            story.customer(api, name=str(number))
        up.set()
        wait_until_acknowledged(api, sandbox)
        transport.close()

    assert got == ["0", "1", "2", "3"]


def test_an_unreachable_endpoint_holds_up_no_other():
    got = []

    def post(url, body, headers):
        if url.endswith("/down"):
            raise ConnectionRefusedError
        got.append(json.loads(body)["data"]["object"]["name"])
        return 200

    with running_sandbox(
        webhook_url="http://127.0.0.1:1/down", post=post, retry_delays=(60.0,)
    ) as sandbox:
        sandbox.app.register_endpoint("http://127.0.0.1:1/up")
        transport = stripe.RequestsClient(timeout=20)
        for number in range(3):
            story.customer(sandbox.client(http_client=transport), name=str(number))
        assert sandbox.app.deliveries.wait_until_idle(10)
        transport.close()
        left = sandbox.app.deliveries.pending()

    assert (got, left) == (["0", "1", "2"], 3)


def test_a_slow_endpoint_blocks_no_request(stripe_sandbox, api):
    release = threading.Event()

    def post(url, body, headers):
        release.wait(10)
        return 200

    with running_sandbox(webhook_url="http://127.0.0.1:1/", post=post) as sandbox:
        transport = stripe.RequestsClient(timeout=5)
        slow = sandbox.client(http_client=transport)
        for _ in range(5):
            story.customer(slow)
        release.set()
        wait_until_acknowledged(slow, sandbox)
        transport.close()


def test_a_reset_keeps_the_endpoint_of_the_command_line(receiver):
    with running_sandbox(webhook_url=receiver.url, webhook_secret=SECRET) as sandbox:
        sandbox.reset()
        transport = stripe.RequestsClient(timeout=5)
        story.customer(sandbox.client(http_client=transport))
        body, signature = receiver.wait_for(1)[0]
        transport.close()

    assert stripe.Webhook.construct_event(body, signature, SECRET)


def test_an_endpoint_cannot_ask_for_an_event_that_does_not_exist(api):
    with pytest.raises(stripe.InvalidRequestError) as refused:
        register(api, "http://127.0.0.1:9/", "invoice.forgotten")

    assert refused.value.param == "enabled_events[0]"
