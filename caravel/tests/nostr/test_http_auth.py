import hashlib
import json
import time
from base64 import b64decode

from caravel.nostr import generate_secret_key, pubkey_of
from caravel.nostr.events import parse_event
from caravel.nostr.http_auth import authorization

URL = "https://caravel.example/api/relays?plan=basic&name=caf%C3%A9"


def signed(secret_key=None, **request):
    """Return the verified event of the header that signs a request."""
    secret_key = secret_key or generate_secret_key()
    header = authorization(secret_key, **{"url": URL, "method": "GET", **request})
    scheme, _, token = header.partition(" ")
    assert scheme == "Nostr"
    return parse_event(json.loads(b64decode(token, validate=True)))


def test_event_has_url_and_method_of_request():
    key = generate_secret_key()

    earliest = int(time.time())
    event = signed(key, method="get")
    latest = time.time()

    assert (event.kind, event.content, event.pubkey) == (27235, "", pubkey_of(key))
    assert earliest <= event.created_at <= latest
    assert event.values("u") == [URL]
    assert event.values("method") == ["GET"]
    assert event.values("payload") == []


def test_event_has_hash_of_body():
    body = '{"name": "café"}'.encode()

    event = signed(method="POST", body=body)

    assert event.values("payload") == [hashlib.sha256(body).hexdigest()]


def test_equal_requests_in_one_second_have_different_events():
    key = generate_secret_key()

    events = [signed(key) for _ in range(20)]

    assert len({event.id for event in events}) == 20
