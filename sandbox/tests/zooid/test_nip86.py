"""Names, icons and descriptions changed at the relay itself (NIP-86).

The source is khatru's `nip86.go` and zooid's `management.go`.
"""

import json
import time

import pytest
import requests
from time_machine import travel

from caravel.nostr.http_auth import authorization
from sandbox.tests.support.zooid import (
    ANN_KEY,
    BEN,
    BEN_KEY,
    HOST,
    create,
    fetch,
    patch,
)


def call(zooid, method, *params, key=ANN_KEY, url=f"https://{HOST}", **options):
    body = json.dumps({"method": method, "params": params}).encode()
    signed = options.get("signed", body)
    with travel(time.time() - options.get("age", 0)):
        signature = authorization(key, url=url, method="POST", body=signed)
    headers = {
        "Host": HOST,
        "Content-Type": "application/nostr+json+rpc",
        "Authorization": signature,
    }
    answer = requests.post(zooid.url, data=body, headers=headers, timeout=60)
    assert answer.status_code == 200
    return answer.json()


@pytest.mark.parametrize("field", ["name", "description", "icon"])
def test_owner_changes_what_the_document_shows(zooid, field):
    create(zooid, management={"enabled": True})

    assert call(zooid, f"changerelay{field}", "New ✓") == {"result": True}

    assert fetch(zooid, HOST).json()[field] == "New ✓"
    assert zooid.relays["a"]["info"][field] == "New ✓"
    assert (zooid.reloads("a"), zooid.reloads("a", "nip86")) == (2, 1)


def test_only_owner_and_admins_may_change_it(zooid):
    create(zooid, management={"enabled": True})
    refusal = {"error": "blocked: only relay admins can manage this relay."}
    assert call(zooid, "changerelayname", "Mine", key=BEN_KEY) == refusal

    patch(zooid, roles={"admin": {"pubkeys": [BEN], "can_manage": True}})
    assert call(zooid, "changerelayname", "Mine", key=BEN_KEY) == {"result": True}


def test_relay_without_management_supports_no_method(zooid):
    create(zooid)

    assert call(zooid, "changerelayname", "New") == {
        "error": "method changerelayname not supported"
    }
    assert zooid.reloads("a") == 1


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"url": f"http://{HOST}"}, "invalid 'u' tag"),
        ({"url": f"https://{HOST}/"}, "invalid 'u' tag"),
        ({"signed": b"{}"}, "invalid auth event payload hash"),
        ({"age": 40}, "auth event is too old"),
    ],
)
def test_signature_must_be_recent_and_for_the_relay_and_the_body(zooid, options, error):
    create(zooid, management={"enabled": True})

    assert call(zooid, "changerelayname", "New", **options) == {"error": error}


def test_edit_at_the_relay_undoes_a_write_that_was_not_reloaded(zooid):
    create(zooid, management={"enabled": True})
    zooid.reload_delay = 3600
    patch(zooid, inactive=True)

    call(zooid, "changerelayname", "New")

    zooid.reload()
    assert not zooid.relays["a"].get("inactive")
    assert fetch(zooid, HOST).json()["name"] == "New"
