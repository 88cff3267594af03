import json
import socket
import threading
from contextlib import contextmanager
from uuid import uuid4

import pytest
from django.db import transaction

from caravel.core.db.transactions import NetworkInTransaction
from caravel.nostr import generate_secret_key, pubkey_of
from caravel.tests.support.waiting import join
from relays.clients.zooid import Zooid, request
from relays.clients.zooid.request import MAX_BYTES
from relays.exceptions import ZooidRefused, ZooidUnavailable

ANN, BEN = (pubkey_of(digit * 64) for digit in "12")
RELAY = uuid4()

pytestmark = pytest.mark.django_db


def refusal_message():
    """Return the message of the ZooidRefused that listing members raises."""
    with pytest.raises(ZooidRefused) as caught:
        Zooid().list_members(RELAY)
    assert (caught.value.code, caught.value.status) == ("zooid-refused", 502)
    return caught.value.message


def unavailable_message():
    with pytest.raises(ZooidUnavailable) as caught:
        Zooid().list_members(RELAY)
    assert (caught.value.code, caught.value.status) == ("zooid-unavailable", 503)
    return caught.value.message


def set_response(zooid, body, status=200):
    zooid.fault("body", body=body, status=status, times=1)


@contextmanager
def raw_server(settings, *parts):
    """Run a server that sends these bytes, part by part, to one client."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings.ZOOID_API_URL = f"http://127.0.0.1:{server.getsockname()[1]}"

        def serve():
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                for part in parts:
                    connection.sendall(part)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        join(thread)


def test_members_are_returned_in_hex(zooid):
    zooid.set_members(RELAY, [BEN, ANN])
    zooid.set_members(uuid4(), [ANN])

    assert Zooid().list_members(RELAY) == [BEN, ANN, zooid.own_pubkey(RELAY)]
    assert zooid.requests == [("GET", f"/relay/{RELAY}/members")]


def test_unknown_relay_has_no_members(zooid):
    assert Zooid().list_members(RELAY) == []


@pytest.mark.parametrize("members", ["null", "[]"])
def test_null_and_empty_list_mean_no_members(zooid, members):
    set_response(zooid, f'{{"members": {members}}}')

    assert Zooid().list_members(RELAY) == []


def test_equal_requests_in_one_second_are_not_replays(zooid):
    zooid.set_members(RELAY, [ANN])

    members = [ANN, zooid.own_pubkey(RELAY)]
    assert [Zooid().list_members(RELAY) for _ in range(3)] == [members] * 3


def test_error_names_api_whitelist_when_robot_is_not_in_it(zooid, settings):
    settings.ROBOT_SECRET = generate_secret_key()

    assert refusal_message() == (
        "zooid answered 403: the robot's public key is not in its API_WHITELIST: "
        f"{pubkey_of(settings.ROBOT_SECRET)}."
    )


def test_error_names_api_host_when_zooid_is_called_by_other_name(zooid, settings):
    settings.ZOOID_API_URL = zooid.url.replace("127.0.0.1", "localhost")

    assert refusal_message() == (
        "zooid answered 404: its API_HOST is not the host of ZOOID_API_URL."
    )


@pytest.mark.parametrize(
    "body", ["", "Not Found", "{}", "[]", '"error"', '{"error": "", "code": "x"}']
)
def test_404_without_error_object_is_refused(zooid, body):
    set_response(zooid, body, 404)

    assert "zooid answered 404" in refusal_message()


@pytest.mark.parametrize("status", [201, 204, 301, 302, 400, 401, 405, 409])
def test_unexpected_status_is_refused_without_repeating_body(zooid, status):
    set_response(zooid, '{"error": "hunter2"}', status)

    message = refusal_message()

    assert message.startswith(f"zooid answered {status}: ")
    assert "hunter2" not in message


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_429_and_5xx_are_temporary(zooid, status):
    set_response(zooid, '{"error": "hunter2"}', status)

    message = unavailable_message()

    assert message.startswith(f"zooid answered {status}: ")
    assert "hunter2" not in message


def test_redirect_is_not_followed(zooid):
    zooid.fault("redirect")

    assert "zooid answered 302" in refusal_message()
    assert len(zooid.requests) == 1


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "null",
        "{}",
        '{"error": "none"}',
        '{"members": ""}',
        '{"members": {}}',
        '{"members": [null]}',
        '{"members": [["a"]]}',
        f'{{"members": "{ANN}"}}',
        f'{{"members": {{"{ANN}": true}}}}',
        json.dumps({"members": [ANN, ANN.upper()]}),
        json.dumps({"members": [ANN, ANN[:-1]]}),
        json.dumps({"members": [ANN, f"{ANN}\n"]}),
        json.dumps([ANN]),
        '{"members": [' + "1" * 10_000 + "]}",
        "[" * 100_000,
    ],
)
def test_response_without_list_of_public_keys_is_refused(zooid, body):
    set_response(zooid, body)

    assert refusal_message() == "zooid's response is not a list of members."


@pytest.mark.parametrize("kind", ["garbage", "html"])
def test_response_that_is_not_json_is_refused(zooid, kind):
    zooid.fault(kind)

    assert refusal_message() == "zooid's response is not a list of members."


def test_response_larger_than_limit_is_refused(zooid):
    body = json.dumps({"members": [ANN]}).ljust(MAX_BYTES)

    set_response(zooid, body)
    assert Zooid().list_members(RELAY) == [ANN]
    set_response(zooid, f"{body} ")
    assert refusal_message() == "zooid's response is too large."
    zooid.fault("huge")
    assert refusal_message() == "zooid's response is too large."


@pytest.mark.parametrize(
    # It answers within the usual timeout, and so is used without the shorter one.
    ("kind", "seconds"),
    [("slow", 4), ("drip", 4), ("drip", 0.02)],
)
def test_slow_response_is_aborted_at_deadline(zooid, kind, seconds, monkeypatch):
    monkeypatch.setattr(request, "TIMEOUT", 0.1)
    zooid.fault(kind, seconds=seconds)

    assert unavailable_message() == "zooid: it did not answer in time."


def test_call_after_connection_reset_succeeds(zooid):
    zooid.fault("reset", times=1)

    assert unavailable_message() == "zooid: the connection failed."
    assert Zooid().list_members(RELAY) == []


def test_unreachable_server_is_unavailable(settings):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        settings.ZOOID_API_URL = f"http://127.0.0.1:{bound.getsockname()[1]}"

        assert unavailable_message() == "zooid: no connection was made."


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"what is this\r\n\r\n",
    ],
)
def test_incomplete_or_malformed_response_is_unavailable(settings, head):
    with raw_server(settings, head, b'{"members": []}'):
        assert unavailable_message() == "zooid: the connection failed."


def test_netrc_does_not_replace_signature(zooid, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password it\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    zooid.set_members(RELAY, [ANN])

    assert Zooid().list_members(RELAY) == [ANN, zooid.own_pubkey(RELAY)]


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_call_inside_transaction_raises_before_any_request(zooid):
    with pytest.raises(NetworkInTransaction), transaction.atomic():
        Zooid().list_members(RELAY)

    assert zooid.requests == []
