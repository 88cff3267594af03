"""Relays of the sandbox zooid: NIP-11 on their hosts, and reloads.

The source is zooid's `instance.go`, `lib.go` and `cmd/relay/main.go`.
"""

import asyncio
from unittest.mock import call, create_autospec

import pytest
import requests

from sandbox.common.nostr import pubkey_of
from sandbox.tests.support.zooid import (
    ANN,
    BEN,
    HOST,
    config,
    create,
    fetch,
    patch,
    send,
)


def test_active_relay_shows_its_nip_11_document(zooid):
    info = {"name": "Reef", "pubkey": ANN, "icon": "https://a.b/c", "description": "D"}
    relay = config(info=info)
    send(zooid, "POST", "/relay/a", relay)

    answer = fetch(zooid, HOST)

    assert answer.headers["Content-Type"] == "application/nostr+json"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    document = answer.json()
    assert document.items() >= info.items()
    assert document["self"] == pubkey_of(relay["secret"])
    assert {11, 42} < {*document["supported_nips"]}
    assert zooid.is_served("a")


@pytest.mark.parametrize(
    "host", [f"{HOST}:80", f"{HOST}.", "ONE.relays.example", "two.relays.example"]
)
def test_host_that_differs_in_any_way_is_404(zooid, host):
    create(zooid)

    assert (fetch(zooid, host).status_code, fetch(zooid, host).text) == (
        404,
        "Not Found\n",
    )


def test_document_needs_the_exact_accept_header(zooid):
    create(zooid)

    for accept in ("text/html", "application/nostr+json, */*"):
        answer = fetch(zooid, HOST, accept)
        assert answer.headers["Content-Type"] != "application/nostr+json"


def test_inactive_relay_is_404_until_it_is_active_again(zooid):
    create(zooid)
    patch(zooid, inactive=True)
    assert fetch(zooid, HOST).status_code == 404
    assert not zooid.is_served("a")

    patch(zooid, inactive=False)
    assert fetch(zooid, HOST).ok


def test_deleted_relay_is_404(zooid):
    create(zooid)
    send(zooid, "DELETE", "/relay/a")

    assert fetch(zooid, HOST).status_code == 404
    assert not zooid.is_served("a")


def test_moved_relay_leaves_its_host_to_another(zooid):
    create(zooid)
    patch(zooid, host="new.relays.example", info={"name": "moved"})
    assert fetch(zooid, HOST).status_code == 404
    assert fetch(zooid, "new.relays.example").json()["name"] == "moved"

    create(zooid, "b", host=HOST, schema="b", info={"name": "other", "pubkey": BEN})
    assert fetch(zooid, HOST).json()["pubkey"] == BEN


def test_each_write_reloads_the_relay_even_without_a_difference(zooid):
    create(zooid)
    create(zooid, "b", name="b")
    for _ in range(2):
        patch(zooid, inactive=False)
    send(zooid, "PATCH", "/relay/a", {"host": ""})
    send(zooid, "GET", "/relay/a/members")
    send(zooid, "DELETE", "/relay/b")

    assert (zooid.reloads("a"), zooid.reloads("b"), zooid.reloads("c")) == (3, 2, 0)
    assert zooid.reloads("a", "api") == 3
    assert zooid.reloads("a", "nip86") == 0


def test_answer_comes_before_a_reload_that_is_delayed(zooid):
    create(zooid)
    zooid.reload_delay = 3600

    patch(zooid, info={"name": "first"})
    patch(zooid, info={"name": "second"}, inactive=False)
    send(zooid, "POST", "/relay/b", config("b"))
    assert fetch(zooid, HOST).json()["name"] == "one"
    assert fetch(zooid, "b.relays.example").status_code == 404

    zooid.reload()
    assert fetch(zooid, HOST).json()["name"] == "second"
    assert fetch(zooid, "b.relays.example").ok
    assert zooid.reloads("a") == 3


def test_latency_delays_relays_and_api(zooid, monkeypatch):
    create(zooid)
    sleep = create_autospec(asyncio.sleep)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    zooid.latency = 3600.0

    assert fetch(zooid, HOST).ok
    assert send(zooid, "GET", "/relay/a/members").ok
    assert sleep.await_args_list == [call(3600.0), call(3600.0)]


def test_fault_of_a_place_and_a_path_leaves_the_others_alone(zooid):
    create(zooid)
    create(zooid, "b", name="two")
    zooid.fault("error", status=502, place="relays", path="two.*")
    zooid.fault("error", status=503, path="/relay/b*")

    assert fetch(zooid, HOST).ok
    assert fetch(zooid, "two.relays.example").status_code == 502
    assert send(zooid, "GET", "/relay/a/members").ok
    assert send(zooid, "GET", "/relay/b/members").status_code == 503
    zooid.clear_faults()
    zooid.fault("error", status=504, place="everywhere")
    assert fetch(zooid, HOST).status_code == 504
    assert send(zooid, "GET", "/relay/a/members").status_code == 504


def test_relay_has_a_home_page_and_no_others(zooid):
    create(zooid, info={"name": "A & B", "description": "<b>", "pubkey": ANN})
    url = f"{zooid.url}/elsewhere"

    page = fetch(zooid, HOST, "text/html")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    for text in ("<h1>A &amp; B</h1>", "&lt;b&gt;", f"wss://{HOST}"):
        assert text in page.text
    assert requests.get(url, headers={"Host": HOST}, timeout=60).status_code == 404


def test_dark_relay_with_a_local_name_is_404_and_not_the_page(zooid):
    host = f"reef.localhost:{zooid.url.rpartition(':')[2]}"
    create(zooid, host=host)
    assert fetch(zooid, host).json()["name"] == "one"

    patch(zooid, inactive=True)

    for accept in ("application/nostr+json", "text/html"):
        answer = fetch(zooid, host, accept)
        assert (answer.status_code, answer.text) == (404, "Not Found\n")
