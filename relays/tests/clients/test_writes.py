import hashlib
import json
import socket
from base64 import b64decode
from datetime import timedelta
from email.utils import format_datetime
from uuid import uuid4

import pytest
import time_machine
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from caravel.core.db.transactions import NetworkInTransaction
from caravel.nostr import generate_secret_key, pubkey_of
from caravel.tests.support.http_server import response, running_server, self_signed
from relays.clients.zooid import Zooid, request
from relays.exceptions import (
    HostTaken,
    RelayExists,
    RelayMissing,
    SchemaTaken,
    ZooidOutcomeUnknown,
    ZooidRefused,
    ZooidUnavailable,
)

ANN = pubkey_of("1" * 64)
ROBOT = pubkey_of(settings.ROBOT_SECRET)
RELAY, OTHER = uuid4(), uuid4()
SECRET = generate_secret_key()
WRITES = {
    "create": lambda: Zooid().create_relay(RELAY, config()),
    "patch": lambda: Zooid().patch_relay(RELAY, {"inactive": True}),
    "delete": lambda: Zooid().delete_relay(RELAY),
}
every_write = pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)

pytestmark = pytest.mark.django_db


def config(**changes):
    return {
        "host": "ann.relays.example",
        "schema": "ann",
        "secret": SECRET,
        "info": {"name": "Ann's", "pubkey": ANN},
        **changes,
    }


def failure(write):
    """Return the error that a call raises."""
    with pytest.raises((ZooidUnavailable, ZooidRefused)) as caught:
        write()
    assert SECRET not in repr(caught.value)
    assert "hunter2" not in str(caught.value)
    return caught.value


def set_response(zooid, status, body='{"error": "hunter2"}'):
    zooid.fault("body", body=body, status=status, times=1)


def test_created_relay_is_configured(zooid):
    Zooid().create_relay(RELAY, config())

    assert zooid.relays[str(RELAY)]["secret"] == SECRET
    assert zooid.relays[str(RELAY)]["info"]["name"] == "Ann's"


def test_second_creation_raises_relay_exists_and_changes_nothing(zooid):
    Zooid().create_relay(RELAY, config())
    before = zooid.relays[str(RELAY)]

    with pytest.raises(RelayExists):
        Zooid().create_relay(RELAY, config(host="other.relays.example"))
    assert zooid.relays[str(RELAY)] == before


def test_patch_changes_only_its_fields(zooid):
    Zooid().create_relay(RELAY, config())
    before = zooid.relays[str(RELAY)]

    Zooid().patch_relay(RELAY, {"inactive": True, "info": {"name": "New"}})

    info = {**before["info"], "name": "New"}
    assert zooid.relays[str(RELAY)] == {**before, "inactive": True, "info": info}


def test_patch_of_unknown_relay_raises_relay_missing(zooid):
    with pytest.raises(RelayMissing):
        Zooid().patch_relay(RELAY, {"inactive": True})


def test_delete_reports_whether_there_was_a_relay(zooid):
    Zooid().create_relay(RELAY, config())

    assert Zooid().delete_relay(RELAY) is True
    assert Zooid().delete_relay(RELAY) is False
    assert zooid.relays == {}


def test_has_relay_finds_inactive_relay(zooid):
    assert Zooid().has_relay(RELAY) is False

    Zooid().create_relay(RELAY, config(inactive=True))

    assert Zooid().has_relay(RELAY) is True


def test_has_relay_is_not_answered_by_another_server(zooid):
    set_response(zooid, 404, "Not Found")
    assert "API_HOST" in failure(lambda: Zooid().has_relay(RELAY)).message
    set_response(zooid, 200, "<html>")
    assert type(failure(lambda: Zooid().has_relay(RELAY))) is ZooidRefused


# Texts of https://github.com/coracle-social/zooid/blob/master/zooid/api.go, in which %q
# quotes a value: a host can contain the word "schema", and a schema "host".
@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("relay with this id already exists", RelayExists),
        ('schema "host" is already in use', SchemaTaken),
        ('host "schema.relays.example" is already in use', HostTaken),
        ('host "relay with this id" is already in use', HostTaken),
        ("something else", ZooidRefused),
    ],
)
def test_conflict_is_told_by_its_text(zooid, text, error):
    set_response(zooid, 409, json.dumps({"error": text}))

    with pytest.raises(error):
        Zooid().create_relay(RELAY, config())


@pytest.mark.parametrize(
    ("changes", "error"),
    [({"schema": "b"}, HostTaken), ({"host": "b.relays.example"}, SchemaTaken)],
)
def test_host_and_schema_of_another_relay_are_taken(zooid, changes, error):
    Zooid().create_relay(OTHER, config())

    with pytest.raises(error):
        Zooid().create_relay(RELAY, config(**changes))


@every_write
def test_request_is_signed_with_url_method_and_hash_of_its_body(settings, write):
    with running_server(lambda _: response(401)) as server:
        settings.ZOOID_API_URL = server.url
        failure(write)

    (received,) = server.requests
    event = json.loads(b64decode(received.headers["authorization"].split()[1]))
    tags = dict(event["tags"])
    assert tags["u"] == f"{server.url}/relay/{RELAY}"
    assert tags["method"] == received.method
    digest = hashlib.sha256(received.body).hexdigest() if received.body else None
    assert tags.get("payload") == digest
    assert bool(received.body) == (received.method != "DELETE")


@every_write
@pytest.mark.parametrize("when", ["before", "after"])
def test_outcome_is_unknown_if_connection_is_lost(zooid, write, when):
    zooid.fault("reset", when=when, times=1)

    assert type(failure(write)) is ZooidOutcomeUnknown


def test_lost_answer_may_belong_to_a_relay_that_was_created(zooid):
    zooid.fault("reset", when="after", times=1)
    assert type(failure(WRITES["create"])) is ZooidOutcomeUnknown

    with pytest.raises(RelayExists):
        WRITES["create"]()


@every_write
def test_outcome_is_unknown_after_deadline(zooid, write, monkeypatch):
    monkeypatch.setattr(request, "TIMEOUT", 0.1)
    zooid.fault("slow", seconds=4)

    error = failure(write)

    assert type(error) is ZooidOutcomeUnknown
    assert error.message == "zooid: it did not answer in time."


@every_write
@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
def test_outcome_is_unknown_after_server_error(zooid, write, status):
    set_response(zooid, status)

    assert type(failure(write)) is ZooidOutcomeUnknown


@every_write
@pytest.mark.parametrize(
    ("status", "body"),
    [(200, ""), (201, "<html>"), (200, "[]"), (204, ""), (202, '{"message": ""}')],
)
def test_outcome_is_unknown_if_success_is_not_reported_by_zooid(
    zooid, write, status, body
):
    set_response(zooid, status, body)

    error = failure(write)

    assert type(error) is ZooidOutcomeUnknown
    assert "ZOOID_API_URL" in error.message


@every_write
def test_outcome_is_unknown_if_response_is_too_large(zooid, write):
    zooid.fault("huge", times=1)

    assert type(failure(write)) is ZooidOutcomeUnknown


@every_write
def test_nothing_was_done_if_zooid_is_not_reached(settings, write):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        settings.ZOOID_API_URL = f"http://127.0.0.1:{bound.getsockname()[1]}"

        assert type(failure(write)) is ZooidUnavailable


@every_write
def test_nothing_was_done_if_requests_are_limited(zooid, write):
    set_response(zooid, 429)

    assert type(failure(write)) is ZooidUnavailable


@every_write
@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (301, "ZOOID_API_URL leads to another address, which must be set instead"),
        (400, "its version does not accept the configuration"),
        (401, "its own URL is not ZOOID_API_URL"),
        (403, f"the robot's public key is not in its API_WHITELIST: {ROBOT}"),
        (405, "its version is too old for this call"),
        (413, "a proxy limits the size of requests"),
        (418, "this status is unexpected"),
    ],
)
def test_refusal_says_what_to_change(zooid, write, status, advice):
    set_response(zooid, status)

    error = failure(write)

    assert type(error) is ZooidRefused
    assert error.message == f"zooid answered {status}: {advice}."


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("schema must contain only letters, numbers, and underscores", "schema"),
        ("invalid info.pubkey: hunter2", "info.pubkey"),
        ("invalid secret key: hunter2", "secret"),
        ("host is required", "host"),
        ("invalid json config: hunter2", "json"),
    ],
)
def test_refusal_names_the_field_that_zooid_names(zooid, text, field):
    set_response(zooid, 400, json.dumps({"error": text}))

    assert failure(WRITES["create"]).message.endswith(f" the configuration ({field}).")


def test_invalid_configuration_is_refused(zooid):
    error = failure(lambda: Zooid().create_relay(RELAY, config(schema="")))

    assert error.message.endswith(" the configuration (schema).")
    assert zooid.relays == {}


@pytest.mark.parametrize(
    ("seconds", "advice"),
    [
        (0, ""),
        (59, ""),
        (-59, ""),
        (600, ", or the time: this server's clock is 600 s ahead of zooid's"),
        (-600, ", or the time: this server's clock is 600 s behind zooid's"),
    ],
)
def test_refused_signature_names_a_clock_that_is_wrong(settings, seconds, advice):
    now = timezone.now().replace(microsecond=0)  # a Date has no fractions
    answer = response(401, Date=format_datetime(now))
    with running_server(lambda _: answer) as server:
        settings.ZOOID_API_URL = server.url
        with time_machine.travel(now + timedelta(seconds=seconds), tick=False):
            error = failure(WRITES["patch"])

    assert error.message == (
        f"zooid answered 401: its own URL is not ZOOID_API_URL{advice}."
    )


@pytest.mark.parametrize("date", ["", "yesterday", "Mon, 99 Foo 2026 00:00:00 GMT"])
def test_refused_signature_without_date_names_no_clock(settings, date):
    with running_server(lambda _: response(401, Date=date)) as server:
        settings.ZOOID_API_URL = server.url
        message = failure(WRITES["patch"]).message

    assert message == "zooid answered 401: its own URL is not ZOOID_API_URL."


# https://github.com/coracle-social/zooid/blob/master/zooid/util.go: zooid is reached by
# https if it has TLS itself, or if this header says so.
def test_refused_signature_names_the_header_of_a_tls_proxy(
    settings, tmp_path, monkeypatch
):
    tls, certificate = self_signed(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with running_server(lambda _: response(401), tls) as server:
        settings.ZOOID_API_URL = server.url
        message = failure(WRITES["patch"]).message

    assert message.endswith(", or its proxy does not send X-Forwarded-Proto.")


@every_write
def test_call_inside_transaction_raises_before_any_request(zooid, write):
    with pytest.raises(NetworkInTransaction), transaction.atomic():
        write()

    assert zooid.requests == []
