"""Verification of signed requests (NIP-98): one test per error code and edge case."""

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


def test_signed_request_returns_pubkey():
    assert authenticate(signed()) == pubkey_of(KEY)
    assert authenticate(signed(method="POST", body=b"{}")) == pubkey_of(KEY)


# Of any length modulo 3, and with both characters that the alphabets write differently.
@pytest.mark.parametrize(
    "content", ["", "x", "xx", "\u00bf\u00bf\u00bf", "~~~?\u00ff>"]
)
def test_both_alphabets_of_base64_are_accepted_with_and_without_padding(content):
    tags = [["u", URL], ["method", "GET"]]
    event = sign_event(KEY, kind=27235, content=content, tags=tags)
    standard = base64.b64encode(event.to_json().encode()).decode()
    url_safe = base64.urlsafe_b64encode(event.to_json().encode()).decode()

    for token in {standard, standard.rstrip("="), url_safe, url_safe.rstrip("=")}:
        UsedAuthEvent.objects.all().delete()
        request = SignedRequest(f"Nostr {token}", "GET", URL, b"")
        assert authenticate(request) == pubkey_of(KEY)


@pytest.mark.parametrize("method", ["post", "Post", "POST"])
def test_method_is_accepted_in_any_case(method):
    """nostr-tools' own example signs 'post': nip98.ts, getToken()."""
    tags = [["u", URL], ["method", method]]

    request = signed(tags=tags, method="POST")

    assert authenticate(request) == pubkey_of(KEY)


@pytest.mark.parametrize("header", ["", "Bearer x", "Nostr", "Nostr ", "Nostr ***"])
def test_missing_or_malformed_header_is_refused(header):
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
def test_header_without_event_is_refused(content):
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
def test_event_with_malformed_field_is_refused(change):
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
def test_event_changed_after_signing_is_refused(change):
    tags = [["u", URL], ["method", "GET"]]
    event = sign_event(KEY, kind=27235, content="", tags=tags).to_dict()

    header = encoded({**event, **change})

    assert code_of(replace(signed(), header=header)) == "auth-not-signed"
    assert not UsedAuthEvent.objects.exists()


def test_event_of_wrong_kind_is_refused():
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
def test_event_outside_of_time_tolerance_is_refused(seconds, code):
    assert code_of(signed(at=int(time.time()) + seconds)) == code


@pytest.mark.parametrize("seconds", [-58, 58])
def test_event_within_time_tolerance_is_accepted(seconds):
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
def test_event_for_other_url_is_refused(url):
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
def test_event_without_exactly_one_url_is_refused(tags):
    assert code_of(signed(tags=tags)) == "auth-wrong-url"


@pytest.mark.parametrize(
    "methods", [[], [["method", "post"]], [["method", "*"]], [["method", "GET"]] * 2]
)
def test_event_for_other_method_is_refused(methods):
    assert code_of(signed(tags=[["u", URL], *methods])) == "auth-wrong-method"


def test_event_without_payload_is_refused_when_request_has_body():
    tags = [["u", URL], ["method", "POST"]]
    request = signed(tags=tags, method="POST", body=b"{}")

    assert code_of(request) == "auth-payload-missing"


def test_changed_body_is_refused():
    request = replace(signed(method="POST", body=b'{"plan":"free"}'), body=b"{}")

    assert code_of(request) == "auth-wrong-payload"


def test_removed_body_is_refused():
    request = replace(signed(method="POST", body=b'{"plan":"free"}'), body=b"")

    assert code_of(request) == "auth-wrong-payload"


def test_event_with_second_wrong_payload_is_refused():
    body = b"{}"
    right = ["payload", hashlib.sha256(body).hexdigest()]
    tags = [["u", URL], ["method", "POST"], right, ["payload", "0" * 64]]

    request = signed(tags=tags, method="POST", body=body)

    assert code_of(request) == "auth-wrong-payload"


def test_event_cannot_be_used_twice():
    request = signed()
    authenticate(request)

    assert code_of(request) == "auth-reused"


def test_second_equal_request_of_a_second_learns_how_to_differ():
    now = int(time.time())
    authenticate(signed(at=now))

    with pytest.raises(exceptions.AuthReused) as caught:
        authenticate(signed(at=now))

    assert "add a random tag (nonce), or wait for a second" in caught.value.message
    tags = [["u", URL], ["method", "GET"], ["nonce", "1"]]
    assert authenticate(signed(at=now, tags=tags)) == pubkey_of(KEY)
    assert authenticate(signed(at=now + 1)) == pubkey_of(KEY)


def test_event_is_marked_as_used_in_one_statement(django_assert_num_queries):
    request = signed()

    with django_assert_num_queries(1):
        authenticate(request)
    with django_assert_num_queries(1):
        assert code_of(request) == "auth-reused"


def test_refused_request_does_not_use_up_event():
    request = signed(method="POST", body=b"{}")

    assert code_of(replace(request, body=b"[]")) == "auth-wrong-payload"

    assert authenticate(request) == pubkey_of(KEY)


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_one_of_concurrent_requests_with_same_event_is_accepted():
    request, barrier = signed(), Barrier(6, timeout=60)

    def call(_: int) -> bool:
        barrier.wait()
        try:
            authenticate(request)
        except exceptions.AuthReused:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(6) as executor:
        assert sum(executor.map(call, range(6))) == 1


def test_deleted_event_is_too_old_to_be_used_again():
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
