import json
import time

import pytest
import stripe

from billing.models import StripeEvent
from billing.tasks import process_stripe_event
from billing.tests.support.threads import in_threads

pytestmark = pytest.mark.django_db

URL = "/stripe/webhook"
EVENT = {
    "id": "evt_1",
    "object": "event",
    "type": "customer.subscription.updated",
    "created": 1_790_000_000,
    "livemode": False,
    "data": {"object": {"id": "sub_1", "customer": "cus_1"}},
}


def nested(levels):
    value: object = "x"
    for number in range(levels):
        value = {"x": value} if number % 2 else [value]
    return value


@pytest.fixture
def enqueued_ids(monkeypatch):
    sent = []
    monkeypatch.setattr(
        process_stripe_event,
        "apply_async",
        lambda args=(), kwargs=None, **options: sent.append(args[0]),
    )
    return sent


@pytest.fixture
def deliver(client, settings):
    def post(event=EVENT, *, body=None, secret=None, age=0, **headers):
        body = json.dumps(event) if body is None else body
        signature = stripe.WebhookSignature.generate_signature_header(
            body,
            secret or settings.STRIPE_WEBHOOK_SECRETS[0],
            timestamp=int(time.time()) - age,
        )
        headers = {"Stripe-Signature": signature, **headers}
        return client.post(
            URL,
            body,
            content_type="application/json",
            headers={name: value for name, value in headers.items() if value},
        )

    return post


def test_event_is_stored_verbatim_and_enqueued(
    deliver, enqueued_ids, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        answer = deliver()

    assert answer.status_code == 200
    assert answer.json() == {"data": {"id": "evt_1"}, "code": "ok"}
    event = StripeEvent.objects.get()
    assert (event.pk, event.status) == ("evt_1", "received")
    assert json.loads(event.body) == EVENT
    assert enqueued_ids == ["evt_1"]


def test_storing_an_event_takes_one_insert(
    deliver, enqueued_ids, django_assert_num_queries
):
    with django_assert_num_queries(1):
        assert deliver().status_code == 200


def test_redelivery_stores_nothing_new_and_enqueues_again(
    deliver, enqueued_ids, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        assert deliver().status_code == 200
        assert deliver().status_code == 200

    assert StripeEvent.objects.count() == 1
    assert enqueued_ids == ["evt_1", "evt_1"]


def test_both_secrets_are_accepted_while_rolling(deliver, enqueued_ids, settings):
    settings.STRIPE_WEBHOOK_SECRETS = ["whsec_new", "whsec_old"]

    assert deliver(secret="whsec_old").status_code == 200
    assert deliver(secret="whsec_new").status_code == 200
    assert deliver(secret="whsec_older").status_code == 400


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        ({"secret": "whsec_wrong"}, 400, "signature-invalid"),
        ({"Stripe-Signature": None}, 400, "signature-invalid"),
        ({"Stripe-Signature": "garbage"}, 400, "signature-invalid"),
        ({"Stripe-Signature": "t=x,v1=y"}, 400, "signature-invalid"),
        ({"Stripe-Signature": "t=1790000000,v1=\u00e9"}, 400, "signature-invalid"),
        ({"age": 301}, 400, "signature-invalid"),
        ({"body": "no json"}, 400, "event-invalid"),
        ({"body": "[]"}, 400, "event-invalid"),
        ({"body": "{}"}, 400, "event-invalid"),
        ({"body": "null"}, 400, "event-invalid"),
        ({"body": "[" * 100_000}, 400, "event-invalid"),
        ({"event": {**EVENT, "pending": nested(64)}}, 400, "event-invalid"),
        ({"event": {**EVENT, "pending": nested(700)}}, 400, "event-invalid"),
        ({"event": {**EVENT, "id": 1}}, 400, "event-invalid"),
        ({"event": {**EVENT, "id": "evt_\0"}}, 400, "event-invalid"),
        ({"event": {**EVENT, "id": "e" * 256}}, 400, "event-invalid"),
        ({"event": {**EVENT, "type": "t" * 101}}, 400, "event-invalid"),
        ({"event": {**EVENT, "created": 10**18}}, 400, "event-invalid"),
        ({"event": {**EVENT, "data": {"object": "x"}}}, 400, "event-invalid"),
        ({"event": {**EVENT, "livemode": True}}, 400, "livemode-mismatch"),
        ({"body": " " * (1024 * 1024 + 1)}, 413, "body-too-large"),
    ],
)
def test_invalid_delivery_is_refused_with_a_code_and_not_stored(
    deliver, enqueued_ids, request_, status, code
):
    answer = deliver(**request_)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert set(answer.json()) == {"error", "code"}
    assert not StripeEvent.objects.exists()
    assert enqueued_ids == []


def test_body_that_is_not_utf8_is_refused(client):
    answer = client.post(
        URL,
        b"\xff\xfe",
        content_type="application/json",
        headers={"Stripe-Signature": "t=1,v1=x"},
    )

    assert (answer.status_code, answer.json()["code"]) == (400, "event-invalid")


def test_signature_is_accepted_for_five_minutes(deliver, enqueued_ids):
    assert deliver(age=295).status_code == 200


def test_event_with_an_escaped_nul_is_stored(deliver, enqueued_ids):
    body = json.dumps(EVENT).replace("sub_1", "sub\\u0000")

    assert deliver(body=body).status_code == 200
    assert StripeEvent.objects.get().data["object"]["id"] == "sub\x00"


def test_event_as_deep_as_allowed_is_stored(deliver, enqueued_ids):
    assert deliver({**EVENT, "pending": nested(60)}).status_code == 200


def test_response_is_json_for_any_accept_header(deliver, enqueued_ids):
    answer = deliver(Accept="text/html")

    assert (answer.status_code, answer["Content-Type"]) == (200, "application/json")


def test_methods_other_than_post_are_refused(client):
    answer = client.get(URL)

    assert (answer.status_code, answer.json()["code"]) == (405, "method-not-allowed")


def test_event_is_stored_while_the_broker_is_away(
    deliver, monkeypatch, django_capture_on_commit_callbacks
):
    def fail(*args, **options):
        raise ConnectionError("broker away")

    monkeypatch.setattr(process_stripe_event, "apply_async", fail)

    with django_capture_on_commit_callbacks(execute=True):
        assert deliver().status_code == 200

    assert StripeEvent.objects.received().count() == 1


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_ten_deliveries_at_once_are_stored_once(deliver, enqueued_ids):
    statuses = []

    assert in_threads(10, lambda: statuses.append(deliver().status_code)) == []

    assert statuses == [200] * 10
    assert StripeEvent.objects.count() == 1
