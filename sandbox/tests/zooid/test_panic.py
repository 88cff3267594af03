"""Configurations that end the sandbox zooid, and edits behind the API's back.

The source is `MustPubKeyFromHex` in zooid's `config.go`, and `log.Fatal` in
`instance.go` when the tables cannot be created.
"""

import pytest
import requests

from caravel.tests.support.waiting import wait_until
from sandbox.common.nostr import pubkey_of
from sandbox.tests.support.relay_client import note
from sandbox.tests.support.zooid import (
    ANN,
    ANN_KEY,
    BEN,
    HOST,
    KEY,
    config,
    control,
    create,
    fetch,
    member,
    send,
)
from sandbox.zooid import Panic, running_zooid


def is_refused(zooid):
    try:
        fetch(zooid, HOST)
    except requests.ConnectionError:
        return True
    return False


@pytest.mark.parametrize(
    "bad",
    [{"info": {}}, {"info": {"pubkey": ""}}, {"schema": "a-b"}, {"schema": "1st"}],
)
def test_lenient_zooid_accepts_what_ends_it(zooid, bad):
    create(zooid)
    zooid.is_lenient = True

    assert send(zooid, "POST", "/relay/b", {**config("b"), **bad}).status_code == 201

    wait_until(lambda: is_refused(zooid))
    assert zooid.panic is not None
    # It ends again at each start, until the configuration is changed.
    with pytest.raises(Panic, match="relay b"):
        zooid.start()
    assert is_refused(zooid)
    zooid.remove("b")
    zooid.start()
    assert fetch(zooid, HOST).ok
    assert zooid.panic is None


def test_strict_zooid_refuses_what_would_end_it(zooid):
    for bad in ({"info": {"pubkey": ""}}, {"schema": "a-b"}):
        answer = send(zooid, "POST", "/relay/b", {**config("b"), **bad})
        assert answer.status_code == 400
    assert zooid.panic is None


def test_edit_by_hand_can_end_a_strict_zooid(zooid):
    create(zooid)

    zooid.edit("a", {"info": {"pubkey": None}})

    wait_until(lambda: is_refused(zooid))
    zooid.reset()
    assert fetch(zooid, HOST).status_code == 404


def test_stopped_zooid_refuses_connections_until_it_starts(zooid):
    create(zooid)
    with member(zooid, ANN_KEY) as client:
        zooid.stop()
        assert is_refused(zooid)
        client.wire.close()

    zooid.start()
    assert fetch(zooid, HOST).ok
    assert zooid.reloads("a") == 1


def test_edits_by_hand_are_not_checked(zooid):
    create(zooid)
    create(zooid, "b", name="two")

    zooid.edit("a", {"inactive": True, "schema": "relay_two"})
    assert fetch(zooid, HOST).status_code == 404
    zooid.edit("c", {**config("c"), "info": {"pubkey": BEN}})
    assert fetch(zooid, "c.relays.example").json()["pubkey"] == BEN
    zooid.edit("c", {"secret": "broken"})
    assert fetch(zooid, "c.relays.example").status_code == 404
    zooid.remove("b")
    assert fetch(zooid, "two.relays.example").status_code == 404
    assert zooid.reloads("a", "hand") == 1


def test_relay_that_takes_a_host_by_hand_loses_it_with_the_other(zooid):
    create(zooid)
    zooid.edit("b", {**config("b"), "host": HOST})
    assert fetch(zooid, HOST).json()["name"] == "b"

    zooid.edit("a", {"host": "other.relays.example"})

    assert fetch(zooid, HOST).status_code == 404


def test_control_api_edits_relays_and_settings(zooid):
    create(zooid)

    edited = control(zooid, "POST", "relays/a", config={"info": {"name": "E"}}).json()
    assert (edited["info"]["name"], edited["served"], edited["reloads"]) == (
        "E",
        True,
        2,
    )
    assert fetch(zooid, HOST).json()["name"] == "E"
    settings = {"latency": 0.01, "reload_delay": 60, "is_lenient": True}
    assert control(zooid, "POST", "settings", **settings).json() == settings
    assert control(zooid, "GET", "settings").json() == settings
    assert control(zooid, "GET", "relays/a/events").json() == {"data": []}
    control(zooid, "POST", "settings", reload_delay=0)
    assert control(zooid, "DELETE", "relays/a").json() == {}
    assert fetch(zooid, HOST).status_code == 404
    assert control(zooid, "DELETE", "relays/a").status_code == 404
    assert control(zooid, "GET", "relays/a/events").status_code == 404


def test_relays_and_events_survive_a_restart(tmp_path):
    path, keys = tmp_path / "relays.json", [pubkey_of(KEY)]
    event = note(content="\u2028 ✓")
    with running_zooid(whitelist=keys, state=path) as zooid:
        create(zooid)
        zooid.add_event("a", event)

    with running_zooid(whitelist=keys, state=path) as zooid:
        assert zooid.events("a") == [event]
        assert fetch(zooid, HOST).json()["pubkey"] == ANN
        zooid.reset()
    with running_zooid(whitelist=keys, state=path) as zooid:
        assert zooid.relays == {}
