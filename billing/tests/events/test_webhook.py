import json
import time
from datetime import timedelta
from typing import Any

import psycopg
import pytest
import stripe
from django.conf import settings
from django.db import connection
from django.utils import timezone

from billing.models import StripeEvent
from billing.services.events.drain import wake_up
from billing.services.events.inbox import record_event
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
def wake_ups(monkeypatch):
    """The wake-ups that were requested, none of which is sent."""
    requested = []
    monkeypatch.setattr(wake_up, "request", lambda: requested.append(1))
    return requested


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


def test_event_is_stored_verbatim_and_a_worker_is_woken(
    deliver, wake_ups, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        answer = deliver()

    assert answer.status_code == 200
    assert answer.json() == {"data": {"id": "evt_1"}, "code": "ok"}
    event = StripeEvent.objects.get()
    assert (event.pk, event.status) == ("evt_1", "received")
    assert json.loads(event.body) == EVENT
    assert event.enqueued_at is None
    assert wake_ups == [1]


def test_storing_an_event_takes_one_insert(
    deliver, wake_ups, django_assert_num_queries
):
    with django_assert_num_queries(1):
        assert deliver().status_code == 200


def test_redelivery_stores_nothing_new_and_wakes_a_worker_again(
    deliver, wake_ups, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        assert deliver().status_code == 200
        assert deliver().status_code == 200

    assert StripeEvent.objects.count() == 1
    assert wake_ups == [1, 1]


@pytest.mark.parametrize("status", ["received", "processed"])
def test_redelivery_makes_only_an_event_that_failed_due_at_once(
    deliver, wake_ups, status
):
    deliver()
    later = timezone.now() + timedelta(hours=1)
    processed_at = later if status == "processed" else None
    StripeEvent.objects.update(
        status=status, processed_at=processed_at, failures=9, next_attempt_at=later
    )

    deliver()

    is_due = StripeEvent.objects.get().next_attempt_at < later
    assert is_due is (status == "received")


def test_both_secrets_are_accepted_while_rolling(deliver, wake_ups, settings):
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
        ({"event": {**EVENT, "pending": nested(63)}}, 400, "event-invalid"),
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
    deliver, wake_ups, request_, status, code
):
    answer = deliver(**request_)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert set(answer.json()) == {"error", "code"}
    assert not StripeEvent.objects.exists()
    assert wake_ups == []


def test_body_that_is_not_utf8_is_refused(client):
    answer = client.post(
        URL,
        b"\xff\xfe",
        content_type="application/json",
        headers={"Stripe-Signature": "t=1,v1=x"},
    )

    assert (answer.status_code, answer.json()["code"]) == (400, "event-invalid")


def test_signature_is_accepted_for_five_minutes(deliver, wake_ups):
    assert deliver(age=295).status_code == 200


def test_event_with_an_escaped_nul_is_stored(deliver, wake_ups):
    body = json.dumps(EVENT).replace("sub_1", "sub\\u0000")

    assert deliver(body=body).status_code == 200
    assert StripeEvent.objects.get().data["object"]["id"] == "sub\x00"


@pytest.mark.parametrize(
    "pending",
    [nested(62), [{"x": []}] * 1_000, "[{" * 1_000],
    ids=["deep", "wide", "text"],
)
def test_event_as_deep_as_allowed_is_stored(deliver, wake_ups, pending):
    assert deliver({**EVENT, "pending": pending}).status_code == 200


def test_response_is_json_for_any_accept_header(deliver, wake_ups):
    answer = deliver(Accept="text/html")

    assert (answer.status_code, answer["Content-Type"]) == (200, "application/json")


def test_methods_other_than_post_are_refused(client):
    answer = client.get(URL)

    assert (answer.status_code, answer.json()["code"]) == (405, "method-not-allowed")


def test_event_is_stored_if_no_worker_can_be_woken(
    deliver, monkeypatch, django_capture_on_commit_callbacks
):
    def fail():
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(wake_up, "request", fail)

    with django_capture_on_commit_callbacks(execute=True):
        assert deliver().status_code == 200

    assert StripeEvent.objects.received().count() == 1


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_ten_deliveries_at_once_are_stored_once(deliver, wake_ups):
    statuses = []

    assert in_threads(10, lambda: statuses.append(deliver().status_code)) == []

    assert statuses == [200] * 10
    assert StripeEvent.objects.count() == 1


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_connection_that_dies_is_replaced_and_the_event_stored():
    def backend():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            return cursor.fetchone()[0]

    record_event(**signed({**EVENT, "id": "evt_0"}))
    died = backend()
    with psycopg.connect(**_parameters()) as other:
        other.execute("SELECT pg_terminate_backend(%s, 60000)", [died])

    # As if it had died after it was checked.
    wrapper: Any = connection
    wrapper.health_check_done = True
    assert record_event(**signed(EVENT)) == "evt_1"

    assert StripeEvent.objects.count() == 2
    assert backend() != died


def test_event_is_stored_after_a_migration_that_ran_meanwhile():
    record_event(**signed(EVENT))
    # PostgreSQL alters no table before.
    connection.check_constraints()
    with connection.cursor() as cursor:
        cursor.execute(
            "ALTER TABLE billing_stripeevent"
            " ADD COLUMN new text NOT NULL DEFAULT '', ALTER COLUMN type TYPE text"
        )
    record_event(**signed({**EVENT, "id": "evt_2"}))

    assert StripeEvent.objects.filter(type=EVENT["type"]).count() == 2


def test_statement_that_stores_an_event_is_parsed_once():
    for number in range(3):
        record_event(**signed({**EVENT, "id": f"evt_{number}"}))

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_prepared_statements"
            " WHERE statement LIKE 'INSERT INTO %billing_stripeevent%'"
        )
        assert cursor.fetchone() == (1,)


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("t={t},v1={wrong},v0={wrong},v1={right}", 200),
        ("v1={right},t={t}", 200),
        ("t={t},v0={right}", 400),
        ("t={t},v1={wrong},v1={wrong}", 400),
        ("t={t}", 400),
        ("v1={right}", 400),
    ],
)
def test_one_of_several_signatures_suffices_if_its_scheme_is_known(
    deliver, wake_ups, header, status
):
    body = json.dumps(EVENT)
    signature = signed(EVENT)["signature"]
    time_, right = (part.partition("=")[2] for part in signature.split(","))
    header = header.format(t=time_, right=right, wrong="0" * 64)

    answer = deliver(body=body, **{"Stripe-Signature": header})

    assert answer.status_code == status


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_delivery_while_the_database_is_down_is_answered_to_be_sent_again(
    deliver, wake_ups, monkeypatch
):
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "HOST", "/nowhere")

    answer = deliver()

    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert int(answer["Retry-After"]) > 0
    assert wake_ups == []


@pytest.mark.parametrize("host", ["unknown.example", "not a host"])
def test_host_and_scheme_do_not_matter_for_a_signed_delivery(
    deliver, wake_ups, settings, host
):
    settings.SECURE_SSL_REDIRECT = True

    assert deliver(Host=host).status_code == 200


def test_refused_delivery_is_logged_with_its_code_and_address(deliver, caplog):
    deliver(secret="whsec_wrong")

    (line,) = [
        each.msg for each in caplog.records if "webhook_refused" in str(each.msg)
    ]
    assert (line["code"], line["ip"]) == ("signature-invalid", "127.0.0.1")


def signed(event):
    body = json.dumps(event)
    secret = settings.STRIPE_WEBHOOK_SECRETS[0]
    signature = stripe.WebhookSignature.generate_signature_header(body, secret)
    return {"body": body.encode(), "signature": signature}


def _parameters():
    parameters = connection.get_connection_params()
    return {name: parameters[name] for name in ("host", "user", "dbname")}
