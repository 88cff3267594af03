"""Events and webhook deliveries."""

import json
import threading

import pytest
import stripe

from caravel.tests.support.waiting import wait_until
from sandbox.stripe.client.testing import running_sandbox
from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.builders import DAY
from sandbox.tests.support.stripe.receiver import running_http_receiver

SECRET = "whsec_test"


@pytest.fixture
def receiver():
    with running_http_receiver() as server:
        yield server


def create_endpoint(api, url, *events):
    return api.v1.webhook_endpoints.create(
        {"url": url, "enabled_events": list(events or ["*"])}
    )


def event_types_in(received):
    return [json.loads(body)["type"] for body, _ in received]


def wait_until_acknowledged(api, stripe_sandbox):
    pending = stripe_sandbox.app.deliveries.pending
    wait_until(lambda: not pending(), "all deliveries", details=pending)


def test_subscription_lifecycle_emits_events_in_order(api, stripe_sandbox):
    subscription = builders.subscription(api)
    builders.first_invoice(api, subscription)
    api.v1.invoices.pay(subscription.latest_invoice, {"paid_out_of_band": True})
    api.v1.subscriptions.cancel(subscription.id)

    assert builders.event_types(api) == [
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


def test_event_has_object_version_and_request(api):
    customer = api.v1.customers.create({"name": "A"}, {"idempotency_key": "k"})

    event = api.v1.events.list().data[0]

    assert event.type == "customer.created"
    assert event.api_version == stripe.api_version
    assert event.data.object.to_dict() == customer.to_dict()
    assert (event.request.id, event.request.idempotency_key) == (
        customer.last_response.request_id,
        "k",
    )
    assert (event.livemode, event.pending_webhooks) == (False, 0)


def test_event_caused_by_the_clock_has_no_request(api, stripe_sandbox):
    builders.subscription(api)

    stripe_sandbox.advance(2 * builders.HOUR)

    event = api.v1.events.list({"type": "invoice.finalized"}).data[0]
    assert event.request.to_dict() == {"id": None, "idempotency_key": None}


def test_update_event_contains_previous_attributes(api):
    customer = builders.customer(api, name="A", metadata={"a": "1", "b": "2"})
    api.v1.customers.update(customer.id, {"name": "B", "metadata": {"a": "3"}})

    event = api.v1.events.list({"type": "customer.updated"}).data[0]

    assert event.data.previous_attributes.to_dict() == {
        "name": "A",
        "metadata": {"a": "1"},
    }
    assert event.data.object.name == "B"


def test_update_without_change_emits_no_event(api):
    customer = builders.customer(api, name="A")

    api.v1.customers.update(customer.id, {"name": "A"})

    assert builders.event_types(api) == ["customer.created"]


def test_event_list_is_filtered_by_type(api):
    subscription = builders.subscription(api)
    builders.first_invoice(api, subscription)

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
    with pytest.raises(stripe.InvalidRequestError, match="At most 20 types"):
        types(types=[f"invoice.{number}" for number in range(21)])


def test_events_are_deleted_after_thirty_days(api, stripe_sandbox):
    builders.customer(api)
    old = api.v1.events.list().data[0]

    stripe_sandbox.advance(31 * DAY)

    assert api.v1.events.list().data == []
    with pytest.raises(stripe.InvalidRequestError, match="No such event"):
        api.v1.events.retrieve(old.id)
    builders.customer(api)
    assert stripe_sandbox.app.store.count("event") == 1


def test_deliveries_are_signed_and_in_order(api, stripe_sandbox, receiver):
    secret = create_endpoint(api, receiver.url).secret

    for number in range(5):
        builders.customer(api, name=str(number))

    received = receiver.wait_for(5)
    events = [
        stripe.Webhook.construct_event(body, signature, secret)
        for body, signature in received
    ]
    assert [event.data.object.name for event in events] == ["0", "1", "2", "3", "4"]
    assert events[0].pending_webhooks == 1
    wait_until_acknowledged(api, stripe_sandbox)
    assert api.v1.events.retrieve(events[0].id).pending_webhooks == 0


def test_endpoint_secret_is_returned_on_creation_only(api, receiver):
    endpoint = create_endpoint(api, receiver.url)

    assert endpoint.secret.startswith("whsec_")
    [listed] = api.v1.webhook_endpoints.list().data
    assert "secret" not in listed.to_dict()


def test_endpoint_receives_registered_event_types_while_enabled(
    api, stripe_sandbox, receiver
):
    endpoint = create_endpoint(api, receiver.url, "product.created")

    builders.price(api)
    received = receiver.wait_for(1)
    api.v1.webhook_endpoints.update(endpoint.id, {"disabled": True})
    builders.price(api)

    # The receiver may have the first event before its answer is recorded.
    assert stripe_sandbox.app.deliveries.wait_until_idle(timeout=60)
    assert event_types_in(received) == ["product.created"]
    assert stripe_sandbox.app.deliveries.pending() == 0


def test_delivery_is_retried_until_the_endpoint_responds_with_2xx(
    api, stripe_sandbox, receiver
):
    receiver.statuses = [500, 404]
    create_endpoint(api, receiver.url)

    builders.customer(api)

    received = receiver.wait_for(3)
    assert len({json.loads(body)["id"] for body, _ in received}) == 1
    wait_until_acknowledged(api, stripe_sandbox)
    delivered = api.v1.events.list({"delivery_success": True})
    assert delivered.data[0].pending_webhooks == 0


def test_failed_delivery_does_not_delay_other_events(api, stripe_sandbox, receiver):
    stripe_sandbox.pause_webhooks()
    receiver.statuses = [500]
    create_endpoint(api, receiver.url)
    for number in range(3):
        builders.customer(api, name=str(number))

    stripe_sandbox.pause_webhooks(False)

    names = [
        json.loads(body)["data"]["object"]["name"] for body, _ in receiver.wait_for(4)
    ]
    assert names[0] == "0"
    assert sorted(names) == ["0", "0", "1", "2"]
    assert names.index("1") < names.index("2")


def test_paused_delivery_is_counted_as_pending(api, stripe_sandbox, receiver):
    create_endpoint(api, receiver.url)
    stripe_sandbox.pause_webhooks()

    builders.customer(api)

    event = api.v1.events.list({"delivery_success": False}).data[0]
    assert event.pending_webhooks == 1
    assert receiver.received == []
    stripe_sandbox.pause_webhooks(False)
    receiver.wait_for(1)


def test_events_arrive_in_order_after_endpoint_was_unreachable():
    up = threading.Event()
    received = []

    def post(url, body, headers):
        if not up.is_set():
            raise ConnectionRefusedError
        received.append(json.loads(body)["data"]["object"]["name"])
        return 200

    with running_sandbox(
        webhook_url="http://127.0.0.1:1/", post=post, retry_delays=(0.01,)
    ) as sandbox:
        transport = stripe.RequestsClient(timeout=60)
        api = sandbox.client(http_client=transport)
        for number in range(4):
            builders.customer(api, name=str(number))
        up.set()
        wait_until_acknowledged(api, sandbox)
        transport.close()

    assert received == ["0", "1", "2", "3"]


def test_unreachable_endpoint_does_not_delay_other_endpoints():
    received = []

    def post(url, body, headers):
        if url.endswith("/down"):
            raise ConnectionRefusedError
        received.append(json.loads(body)["data"]["object"]["name"])
        return 200

    with running_sandbox(
        webhook_url="http://127.0.0.1:1/down", post=post, retry_delays=(60.0,)
    ) as sandbox:
        sandbox.app.register_endpoint("http://127.0.0.1:1/up")
        transport = stripe.RequestsClient(timeout=60)
        for number in range(3):
            builders.customer(sandbox.client(http_client=transport), name=str(number))
        assert sandbox.app.deliveries.wait_until_idle(60)
        transport.close()
        pending = sandbox.app.deliveries.pending()

    assert (received, pending) == (["0", "1", "2"], 3)


def test_slow_endpoint_does_not_block_api_requests(stripe_sandbox, api):
    release = threading.Event()

    def post(url, body, headers):
        release.wait(120)  # longer than the client waits
        return 200

    with running_sandbox(webhook_url="http://127.0.0.1:1/", post=post) as sandbox:
        transport = stripe.RequestsClient(timeout=60)
        slow = sandbox.client(http_client=transport)
        for _ in range(5):
            builders.customer(slow)
        release.set()
        wait_until_acknowledged(slow, sandbox)
        transport.close()


def test_reset_keeps_endpoint_registered_at_the_start(receiver):
    with running_sandbox(webhook_url=receiver.url, webhook_secret=SECRET) as sandbox:
        sandbox.reset()
        transport = stripe.RequestsClient(timeout=60)
        builders.customer(sandbox.client(http_client=transport))
        body, signature = receiver.wait_for(1)[0]
        transport.close()

    assert stripe.Webhook.construct_event(body, signature, SECRET)


def test_endpoint_for_unknown_event_type_is_rejected(api):
    with pytest.raises(stripe.InvalidRequestError) as caught:
        create_endpoint(api, "http://127.0.0.1:9/", "invoice.forgotten")

    assert caught.value.param == "enabled_events[0]"
