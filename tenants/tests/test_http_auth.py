"""Requests signed as NIP-98 has it, and each way in which they are not."""

import base64
import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from threading import Barrier

import pytest
import time_machine
from django.db import connection
from django.utils import timezone

from caravel.nostr import generate_secret_key, pubkey_of
from caravel.nostr.events import sign_event
from tenants import exceptions
from tenants.models import UsedAuthEvent
from tenants.services.http_auth import (
    SignedRequest,
    authenticate,
    delete_expired_events,
)
from tenants.tasks import sweep_auth_events

pytestmark = pytest.mark.django_db
URL = "https://caravel.example/api/relays?limit=2"
KEY = generate_secret_key()


def encoded(event: object) -> str:
    return "Nostr " + base64.b64encode(json.dumps(event).encode()).decode()


def signed(*, kind=27235, tags=None, at=None, method="GET", body=b"", payload=None):
    if tags is None:
        tags = [["u", URL], ["method", method]]
        if payload or (body and payload is None):
            tags.append(["payload", payload or hashlib.sha256(body).hexdigest()])
    event = sign_event(KEY, kind=kind, content="", tags=tags, created_at=at)
    return SignedRequest(encoded(event.to_dict()), method, URL, body)


def code_of(request: SignedRequest) -> str:
    with pytest.raises(exceptions.AuthFailed) as caught:
        authenticate(request)
    assert caught.value.status == 401
    assert KEY not in str(caught.value)
    return caught.value.code


def test_a_signed_request_tells_whose_it_is():
    assert authenticate(signed()) == pubkey_of(KEY)
    assert authenticate(signed(method="POST", body=b"{}")) == pubkey_of(KEY)


@pytest.mark.parametrize("header", ["", "Bearer x", "Nostr", "Nostr ", "Nostr ***"])
def test_a_header_that_is_none(header):
    request = replace(signed(), header=header)

    assert code_of(request) == ("auth-malformed" if header else "auth-missing")


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe",
        b"no json",
        b"[]",
        b"null",
        b"{}",
        b'{"id": 1}',
        b"[" * 5000,
        b'"' + b"9" * 5000 + b'"',
        b"9" * 5000,
    ],
)
def test_something_that_is_no_event(content):
    header = "Nostr " + base64.b64encode(content).decode()

    assert code_of(replace(signed(), header=header)) == "auth-malformed"


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "27235"},
        {"tags": "u"},
        {"tags": [["u", 1]]},
        {"content": None},
        {"sig": "x"},
        {"pubkey": "0" * 63},
        {"created_at": 1.5},
        {"created_at": True},
    ],
)
def test_an_event_with_a_part_of_the_wrong_form(change):
    event = sign_event(KEY, kind=27235, content="", tags=[]).to_dict()

    header = encoded({**event, **change})

    assert code_of(replace(signed(), header=header)) == "auth-malformed"


@pytest.mark.parametrize(
    "change",
    [
        {"id": "0" * 64},
        {"sig": "0" * 128},
        {"pubkey": pubkey_of(generate_secret_key())},
        {"content": "more"},
        {"created_at": 1},
        {"tags": [["u", URL], ["method", "GET"], ["x", ""]]},
    ],
)
def test_an_event_that_its_author_did_not_sign(change):
    tags = [["u", URL], ["method", "GET"]]
    event = sign_event(KEY, kind=27235, content="", tags=tags).to_dict()

    header = encoded({**event, **change})

    assert code_of(replace(signed(), header=header)) == "auth-not-signed"
    assert not UsedAuthEvent.objects.exists()


def test_an_event_of_another_kind():
    assert code_of(signed(kind=1)) == "auth-wrong-kind"


@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        (-62, "auth-expired"),
        (-3600, "auth-expired"),
        (62, "auth-too-early"),
        (2**40, "auth-too-early"),
    ],
)
def test_an_event_of_another_time(seconds, code):
    assert code_of(signed(at=int(time.time()) + seconds)) == code


@pytest.mark.parametrize("seconds", [-58, 58])
def test_a_clock_that_is_a_little_off_does_no_harm(seconds):
    assert authenticate(signed(at=int(time.time()) + seconds)) == pubkey_of(KEY)


@pytest.mark.parametrize(
    "url",
    [
        "https://caravel.example/api/relays",
        "https://caravel.example/api/relays?limit=3",
        "https://caravel.example/api/relays?limit=2#x",
        "https://caravel.example/api/relays/?limit=2",
        "http://caravel.example/api/relays?limit=2",
        "https://other.example/api/relays?limit=2",
        "https://caravel.example:443/api/relays?limit=2",
        "",
    ],
)
def test_an_event_for_another_address(url):
    tags = [["u", url], ["method", "GET"]]

    assert code_of(signed(tags=tags)) == "auth-wrong-url"


@pytest.mark.parametrize(
    "tags",
    [
        [["method", "GET"]],
        [["u"], ["method", "GET"]],
        [["u", URL], ["u", "https://x.example"], ["method", "GET"]],
        [["U", URL], ["method", "GET"]],
    ],
)
def test_the_address_must_be_there_once(tags):
    assert code_of(signed(tags=tags)) == "auth-wrong-url"


@pytest.mark.parametrize(
    "methods", [[], [["method", "POST"]], [["method", "get"]], [["method", "GET"]] * 2]
)
def test_an_event_for_another_method(methods):
    assert code_of(signed(tags=[["u", URL], *methods])) == "auth-wrong-method"


def test_a_body_must_be_signed():
    tags = [["u", URL], ["method", "POST"]]
    request = signed(tags=tags, method="POST", body=b"{}")

    assert code_of(request) == "auth-payload-missing"


def test_another_body_than_was_signed():
    request = replace(signed(method="POST", body=b'{"plan":"free"}'), body=b"{}")

    assert code_of(request) == "auth-wrong-payload"


def test_a_body_that_was_taken_away():
    request = replace(signed(method="POST", body=b'{"plan":"free"}'), body=b"")

    assert code_of(request) == "auth-wrong-payload"


def test_two_payloads_of_which_one_is_right():
    body = b"{}"
    right = ["payload", hashlib.sha256(body).hexdigest()]
    tags = [["u", URL], ["method", "POST"], right, ["payload", "0" * 64]]

    request = signed(tags=tags, method="POST", body=body)

    assert code_of(request) == "auth-wrong-payload"


def test_an_event_is_good_once():
    request = signed()
    authenticate(request)

    assert code_of(request) == "auth-reused"


def test_a_refused_request_uses_no_event_up():
    request = signed(method="POST", body=b"{}")

    assert code_of(replace(request, body=b"[]")) == "auth-wrong-payload"

    assert authenticate(request) == pubkey_of(KEY)


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_of_many_at_once_one_gets_in():
    request, barrier = signed(), Barrier(6)

    def call(_: int) -> bool:
        barrier.wait()
        try:
            authenticate(request)
        except exceptions.AuthReused:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(call, range(6))) == 1


def test_what_is_forgotten_is_too_old_to_be_used_again():
    with time_machine.travel(timezone.now(), tick=False) as clock:
        request = signed()
        authenticate(request)
        clock.shift(timedelta(minutes=5))
        assert delete_expired_events() == 0
        assert code_of(request) == "auth-expired"

        clock.shift(timedelta(minutes=10))
        sweep_auth_events()

        assert not UsedAuthEvent.objects.exists()
        assert code_of(request) == "auth-expired"
