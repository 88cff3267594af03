import json
import socket
import threading
import time
from contextlib import contextmanager
from uuid import uuid4

import pytest
from django.db import transaction

from caravel.core.db.transactions import NetworkInTransaction
from caravel.nostr import generate_secret_key, pubkey_of
from relays.clients import zooid as client
from relays.clients.zooid import LARGEST, Zooid
from relays.exceptions import ZooidRefused, ZooidUnavailable

ANN, BEN = (pubkey_of(generate_secret_key()) for _ in range(2))
RELAY = uuid4()

pytestmark = pytest.mark.django_db


def refused():
    """Ask for members; return why there are none to be had."""
    with pytest.raises(ZooidRefused) as caught:
        Zooid().list_members(RELAY)
    assert (caught.value.code, caught.value.status) == ("zooid-refused", 502)
    return caught.value.message


def unavailable():
    with pytest.raises(ZooidUnavailable) as caught:
        Zooid().list_members(RELAY)
    assert (caught.value.code, caught.value.status) == ("zooid-unavailable", 503)
    return caught.value.message


def saying(zooid, body, status=200):
    zooid.fault("body", body=body, status=status, times=1)


@contextmanager
def raw_answers(settings, *parts):
    """Let whoever asks get just these bytes, one part after the other."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings.ZOOID_API_URL = f"http://127.0.0.1:{server.getsockname()[1]}"

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                for part in parts:
                    connection.sendall(part)

        thread = threading.Thread(target=answer)
        thread.start()
        yield
        thread.join()


def test_the_members_of_a_relay_are_told_in_hex(zooid):
    zooid.set_members(RELAY, [BEN, ANN])
    zooid.set_members(uuid4(), [ANN])

    assert Zooid().list_members(RELAY) == [BEN, ANN]
    assert zooid.requests == [("GET", f"/relay/{RELAY}/members")]


def test_a_relay_that_was_never_put_there_has_none(zooid):
    assert Zooid().list_members(RELAY) == []


@pytest.mark.parametrize("nobody", ["null", "[]"])
def test_nobody_is_a_list_too(zooid, nobody):
    saying(zooid, f'{{"members": {nobody}}}')

    assert Zooid().list_members(RELAY) == []


def test_the_same_question_twice_in_a_second_is_answered_twice(zooid):
    zooid.set_members(RELAY, [ANN])

    assert [Zooid().list_members(RELAY) for _ in range(3)] == [[ANN]] * 3


def test_a_robot_that_may_not_manage_is_told_so(zooid, settings):
    settings.ROBOT_SECRET = generate_secret_key()

    assert refused() == (
        "zooid answered 403: the robot's public key is not in its API_WHITELIST."
    )


def test_by_another_name_than_its_own_it_has_no_relay_and_says_nothing(zooid, settings):
    settings.ZOOID_API_URL = zooid.url.replace("127.0.0.1", "localhost")

    assert refused() == (
        "zooid answered 404: its API_HOST is not the host of ZOOID_API_URL."
    )


@pytest.mark.parametrize(
    "body", ["", "Not Found", "{}", "[]", '"error"', '{"error": "", "code": "x"}']
)
def test_not_every_404_speaks_of_the_relay(zooid, body):
    saying(zooid, body, 404)

    assert "zooid answered 404" in refused()


@pytest.mark.parametrize("status", [201, 204, 301, 302, 400, 401, 405, 409])
def test_other_answers_are_refusals(zooid, status):
    saying(zooid, '{"error": "hunter2"}', status)

    said = refused()

    assert said.startswith(f"zooid answered {status}: ")
    assert "hunter2" not in said


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_trouble_of_its_own_may_pass(zooid, status):
    saying(zooid, '{"error": "hunter2"}', status)

    assert unavailable() == f"zooid answered {status}."


def test_a_redirect_is_not_followed(zooid):
    zooid.fault("redirect")

    assert "zooid answered 302" in refused()
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
def test_what_is_no_list_of_public_keys_is_refused(zooid, body):
    saying(zooid, body)

    assert refused() == "zooid's answer is not a list of members."


@pytest.mark.parametrize("kind", ["garbage", "html"])
def test_nonsense_is_refused(zooid, kind):
    zooid.fault(kind)

    assert refused() == "zooid's answer is not a list of members."


def test_an_answer_has_its_limit(zooid):
    body = json.dumps({"members": [ANN]}).ljust(LARGEST)

    saying(zooid, body)
    assert Zooid().list_members(RELAY) == [ANN]
    saying(zooid, f"{body} ")
    assert refused() == "zooid's answer is too large."
    zooid.fault("huge")
    assert refused() == "zooid's answer is too large."


@pytest.mark.parametrize(
    ("kind", "seconds"), [("slow", 60), ("drip", 60), ("drip", 0.02)]
)
def test_who_is_slow_is_not_waited_for(zooid, kind, seconds, monkeypatch):
    monkeypatch.setattr(client, "TIMEOUT", 0.1)
    zooid.fault(kind, seconds=seconds)
    began = time.monotonic()

    assert unavailable() == "zooid: it did not answer in time."
    assert time.monotonic() - began < 2


def test_a_broken_connection_may_be_whole_again(zooid):
    zooid.fault("reset", times=1)

    assert unavailable() == "zooid: the connection failed."
    assert Zooid().list_members(RELAY) == []


def test_nobody_at_the_address_is_a_failed_connection(settings):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        settings.ZOOID_API_URL = f"http://127.0.0.1:{free.getsockname()[1]}"

        assert unavailable() == "zooid: the connection failed."


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"what is this\r\n\r\n",
    ],
)
def test_an_answer_that_breaks_off_is_a_failed_connection(settings, head):
    with raw_answers(settings, head, b'{"members": []}'):
        assert unavailable() == "zooid: the connection failed."


def test_no_netrc_replaces_the_signature(zooid, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password it\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    zooid.set_members(RELAY, [ANN])

    assert Zooid().list_members(RELAY) == [ANN]


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_nobody_is_asked_inside_a_transaction(zooid):
    with pytest.raises(NetworkInTransaction), transaction.atomic():
        Zooid().list_members(RELAY)

    assert zooid.requests == []
