"""The control API of the sandbox Lightning: wallets, prices, relay, access."""

import time
from contextlib import suppress
from dataclasses import asdict

import pytest
import requests
from websockets.exceptions import ConnectionClosed

from caravel import dev_defaults
from caravel.tests.support.waiting import wait_until
from lightning.clients.nwc_uri import parse_nwc_url
from sandbox.common.state import UnreadableState
from sandbox.lightning import CannotListen, running_lightning
from sandbox.lightning.behaviours import KINDS, LOOKUPS, describe
from sandbox.lightning.client import Control
from sandbox.tests.support.lightning_fixtures import control, lightning
from sandbox.tests.support.relay_client import connected
from sandbox.tests.support.wallet_client import wallet_client
from sandbox.wallets.behaviour import PAYS, pays_after, refuses
from sandbox.wallets.messages import INFO

__all__ = ["control", "lightning"]


def refusal(control, method, path, body=None, data=None):
    url = f"{control.url}/_sandbox/{path}"
    answer = requests.request(method, url, json=body, data=data, timeout=60)
    return answer.status_code, answer.json()["error"]


def bolt11_of(control, sats=21, **more):
    return control.post("wallets/platform/invoices", sats=sats, **more)["bolt11"]


def test_default_wallets_exist_and_match_the_development_settings(lightning, control):
    wallets = {wallet["name"]: wallet for wallet in control.get("wallets")["data"]}

    assert [*wallets] == ["platform", "rich", "poor", "slow", "refuses"]
    relay = lightning.relay.url
    expected = dev_defaults.sandbox_wallet("seed", "platform", relay)
    assert wallets["platform"]["url"] == expected
    assert wallets["poor"]["budget"] == {
        "sats": 20_000,
        "spent_msat": 0,
        "renewal": "monthly",
    }
    assert wallets["slow"]["behaviour"] == "pays after 20 s"
    assert wallets["refuses"]["behaviour"] == "refuses with INSUFFICIENT_BALANCE"
    assert control.get("prices")["urls"] == (
        dev_defaults.sandbox_prices(lightning.url).split(",")
    )


def test_created_wallet_pays_over_the_relay(control):
    alice = control.post("wallets", name="alice", sats=1_000)

    with wallet_client(alice["url"]) as client:
        client.call("pay_invoice", invoice=bolt11_of(control))

    after = control.get("wallets/alice")
    assert after["balance_msat"] == 979_000
    assert [request["method"] for request in after["requests"]] == ["pay_invoice"]
    assert (
        after["requests"][0]["client"]
        == parse_nwc_url(alice["url"], private_allowed=True).client_pubkey
    )
    (invoice,) = control.get("invoices")["data"]
    assert (invoice["state"], invoice["payer"], invoice["payee"]) == (
        "paid",
        "alice",
        "platform",
    )
    assert "preimage" not in str(control.get("invoices"))


def test_payment_by_hand_works_regardless_of_the_behaviour(control):
    bolt11 = bolt11_of(control, description="Relay")

    paid = control.post("wallets/refuses/pay", bolt11=f"lightning:{bolt11.upper()}")

    assert (paid["state"], paid["description"]) == ("paid", "Relay")
    assert refusal(control, "POST", "wallets/rich/pay", {"bolt11": bolt11}) == (
        402,
        "not paid, INTERNAL: This invoice was already paid.",
    )
    assert refusal(control, "POST", "wallets/rich/pay", {"bolt11": "lnbcrt1"})[0] == 402


@pytest.mark.parametrize("kind", KINDS)
def test_each_behaviour_can_be_set_and_is_described(lightning, control, kind):
    wallet = control.post("wallets/rich/behaviour", kind=kind)

    behaviour = KINDS[kind].make(KINDS[kind].seconds, KINDS[kind].code)
    assert lightning.wallets["rich"].behaviour == behaviour
    assert wallet["behaviour"] == describe(behaviour)


def test_descriptions_of_behaviours_are_unique():
    behaviours = [kind.make(kind.seconds, kind.code) for kind in KINDS.values()]

    descriptions = {describe(behaviour) for behaviour in behaviours}
    assert len(descriptions) == len({str(asdict(value)) for value in behaviours})


def test_behaviours_accept_seconds_and_code(lightning, control):
    control.post("wallets/rich/behaviour", kind="pays", seconds=2.5)
    control.post("wallets/slow/behaviour", kind="refuses", code="QUOTA_EXCEEDED")

    assert lightning.wallets["rich"].behaviour == pays_after(2.5)
    assert lightning.wallets["slow"].behaviour == refuses("QUOTA_EXCEEDED")
    with wallet_client(lightning.wallets["slow"].url) as client:
        assert client.error("pay_invoice", invoice=bolt11_of(control)) == (
            "QUOTA_EXCEEDED"
        )


@pytest.mark.parametrize("kind", LOOKUPS)
def test_each_way_to_answer_lookups_can_be_set(lightning, control, kind):
    wallet = control.post("wallets/platform/lookups", kind=kind)

    assert lightning.wallets["platform"].lookup_behaviour == LOOKUPS[kind]
    is_true = kind == "by-the-book"
    assert wallet["differences"] == ([] if is_true else [f"look-ups: {kind}"])


def test_protocol_of_a_wallet_can_be_changed_and_restored(lightning, control):
    rich = lightning.wallets["rich"]
    assert len(lightning.relay.stored(INFO, author=rich.pubkey)) == 1

    changed = control.post(
        "wallets/rich/protocol",
        clock_skew=-120,
        requests_per_minute=60,
        announces=False,
        may_get_info=False,
        may_list=False,
        error_field="type",
    )

    assert changed["differences"] == [
        "clock -120 s",
        "60 requests a minute",
        "no info event",
        "errors under type",
        "get_info is not allowed",
        "list_transactions is not allowed",
    ]
    assert lightning.relay.stored(INFO, author=rich.pubkey) == []
    assert control.post("wallets/rich/protocol")["differences"] == []
    assert len(lightning.relay.stored(INFO, author=rich.pubkey)) == 1


def test_wallet_back_online_runs_stored_requests(lightning, control):
    assert control.post("wallets/rich/offline")["online"] is False
    with wallet_client(lightning.wallets["rich"].url) as client:
        request = client.request("pay_invoice", invoice=bolt11_of(control))
        client.send(request)
        assert client.client.receive()[:3] == ["OK", request.id, True]
        assert control.get("invoices")["data"][0]["state"] == "open"

        assert control.post("wallets/rich/online")["online"] is True
        assert client.read(client.next_reply(request))["error"] is None

    assert control.get("invoices")["data"][0]["state"] == "paid"


def test_expired_requests_are_run_only_without_heeds_expiration(lightning, control):
    control.post("wallets/rich/offline")
    with wallet_client(lightning.wallets["rich"].url) as client:
        control.post("relay/settings", honours_expiration=False)
        past = int(time.time()) - 5
        bolt11 = bolt11_of(control)
        client.send(client.request("pay_invoice", expires_at=past, invoice=bolt11))
        assert client.client.receive()[2] is True

    control.post("wallets/rich/online")
    assert control.get("invoices")["data"][0]["state"] == "open"
    control.post("wallets/rich/online", heeds_expiration=False)

    assert control.get("invoices")["data"][0]["state"] == "paid"


def test_budget_can_be_set_spent_and_removed(lightning, control):
    control.post("wallets/rich/budget", budget=30, renewal="daily")
    with wallet_client(lightning.wallets["rich"].url) as client:
        client.call("pay_invoice", invoice=bolt11_of(control))
        assert client.error("pay_invoice", invoice=bolt11_of(control)) == (
            "QUOTA_EXCEEDED"
        )
        budget = control.get("wallets/rich")["budget"]
        assert budget == {"sats": 30, "spent_msat": 21_000, "renewal": "daily"}

        assert control.post("wallets/rich/budget")["budget"] is None
        client.call("pay_invoice", invoice=bolt11_of(control))


def test_deposit_adds_sats(control):
    before = control.get("wallets/poor")["balance_msat"]

    assert control.post("wallets/poor/deposit", sats=5)["balance_msat"] == before + 5000


def test_prices_can_be_set_made_faulty_and_reset(lightning, control):
    control.post("prices", price="70000.50", currency="eur")
    control.post("prices", price=1, source="beacon")
    prices = control.get("prices")["prices"]
    assert set(prices["eur"].values()) == {"70000.50"}
    assert prices["usd"]["beacon"] == "1"
    assert prices["usd"]["abacus"] == "63968.000000"
    url = f"{lightning.url}/prices/beacon/usd"
    assert requests.get(url, timeout=60).json()["amount"] == "1"

    faulty = control.post("prices/faults", kind="error", sources=["beacon"])
    assert faulty["faults"] == {"beacon": "error"}
    assert requests.get(url, timeout=60).status_code == 500
    other = f"{lightning.url}/prices/compass/usd"
    assert requests.get(other, timeout=60).status_code == 200

    assert control.delete("prices/faults")["faults"] == {}
    assert requests.get(url, timeout=60).status_code == 200
    assert control.post("prices/reset")["prices"]["usd"]["beacon"] == "64000.00"


def test_relay_faults_apply_and_can_be_cleared(lightning, control):
    added = control.post("relay/faults", kind="mute", kinds=[23194], times=1)
    (fault,) = added["faults"]
    assert fault["id"] == added["id"]
    assert (fault["kinds"], fault["times"], fault["hits"]) == ([23194], 1, 0)

    with wallet_client(lightning.wallets["rich"].url) as client:
        client.send(client.request("get_balance"))
        client.call("get_balance")

    assert control.get("relay")["faults"] == []  # used up
    assert [r["method"] for r in control.get("wallets/rich")["requests"]] == [
        "get_balance"
    ]
    control.post("relay/faults", kind="drop")
    assert control.delete("faults")["faults"] == {}
    assert control.delete("relay/faults")["faults"] == []


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        ("garble", "event"),
        ("garble", "req"),
        ("garble", "delivery"),
        ("forge", "delivery"),
        ("closed", "req"),
        ("disconnect", "req"),
    ],
)
def test_wallets_recover_from_relay_faults(lightning, control, kind, place):
    control.post("relay/faults", kind=kind, on=place)
    accepted = lightning.relay.accepted
    control.post("relay/drop")
    wait_until(lambda: lightning.relay.accepted > accepted, "a connection")
    # The fault "disconnect" may close the connection between the two.
    with connected(lightning.relay.url) as client, suppress(ConnectionClosed):
        client.send("REQ", "x", {"limit": 0})
        client.send("EVENT", {})

    control.delete("faults")
    wait_until(lambda: lightning.relay.subscriptions == 1, "a subscription")

    with wallet_client(lightning.wallets["rich"].url) as client:
        assert client.call("get_balance") == {"balance": 10**10}


def test_relay_can_go_offline_and_online(lightning, control):
    assert control.post("relay/offline")["online"] is False
    assert control.get("relay")["connections"] == 0
    with pytest.raises(OSError), wallet_client(lightning.wallets["rich"].url):
        pass

    assert control.post("relay/online")["online"] is True
    with wallet_client(lightning.wallets["rich"].url) as client:
        wait_until(lambda: lightning.relay.subscriptions == 2, "the wallets")
        assert client.call("get_balance") == {"balance": 10**10}


def test_unresponsive_relay_answers_504_and_wallets_recover(lightning, control):
    control.post("wallets/rich/offline")
    bolt11 = bolt11_of(control)
    with wallet_client(lightning.wallets["rich"].url) as client:
        client.send(client.request("pay_invoice", invoice=bolt11))
        assert client.client.receive()[2] is True
    control.post("relay/faults", kind="closed", on="req")
    assert refusal(control, "POST", "wallets/rich/online") == (
        504,
        "the relay does not respond",
    )
    control.delete("faults")
    control.post("relay/offline")
    assert refusal(control, "POST", "wallets/rich/online")[0] == 504
    assert control.post("wallets", name="alice")["online"] is True

    control.post("relay/online")
    wait_until(lambda: lightning.relay.subscriptions, "the wallets")
    control.post("wallets/rich/online")

    assert control.get("invoices")["data"][0]["state"] == "paid"
    assert lightning.wallets.failures == []


def test_held_messages_can_be_released(lightning, control):
    control.post("relay/faults", kind="hold", kinds=[23194], times=1)
    with wallet_client(lightning.wallets["rich"].url) as client:
        request = client.request("get_balance")
        client.send(request)
        wait_until(lambda: lightning.relay.held, "a held request")

        assert control.post("relay/release")["released"] == 1
        assert client.read(client.next_reply(request))["error"] is None


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("wallets", {}, 400, "name must be a text"),
        (
            "wallets",
            {"name": "No Name"},
            400,
            "name must be up to 40 characters of a-z",
        ),
        ("wallets", {"name": "rich"}, 409, "wallet rich already exists"),
        ("wallets", {"name": "a", "sats": -1}, 400, "sats must be an integer"),
        ("wallets", {"name": "a", "sats": 1.5}, 400, "sats must be an integer"),
        ("wallets", {"name": "a", "sats": 10**17}, 400, "sats must be an integer"),
        ("wallets", {"name": "a", "colour": "red"}, 400, "unknown field: colour"),
        ("wallets", {"name": "a", "renewal": "hourly"}, 400, "renewal must be one of"),
        ("wallets/nobody/pay", {"bolt11": "x"}, 404, "no wallet nobody"),
        ("wallets/rich/behaviour", {"kind": "dances"}, 400, "kind must be one of"),
        ("wallets/rich/behaviour", {}, 400, "kind must be one of"),
        (
            "wallets/rich/behaviour",
            {"kind": "refuses", "code": "no code"},
            400,
            "code must be a NIP-47 error code",
        ),
        (
            "wallets/rich/behaviour",
            {"kind": "pays", "seconds": "snan"},
            400,
            "seconds must be a number",
        ),
        (
            "wallets/rich/behaviour",
            {"kind": "pays", "seconds": 1e9},
            400,
            "seconds must be a number from 0",
        ),
        ("wallets/rich/lookups", {"kind": "guesses"}, 400, "kind must be one of"),
        (
            "wallets/rich/protocol",
            {"clock_skew": "late"},
            400,
            "clock_skew must be a number",
        ),
        (
            "wallets/rich/protocol",
            {"error_field": "name"},
            400,
            "error_field must be one of code, type",
        ),
        (
            "wallets/rich/deposit",
            {"sats": 0},
            400,
            "sats must be an integer, at least 1",
        ),
        (
            "wallets/rich/deposit",
            {"sats": True},
            400,
            "sats must be an integer, at least 1",
        ),
        ("wallets/rich/online", {"heeds_expiration": 3}, 400, "must be true or false"),
        ("prices", {"price": 0}, 400, "price must be a number above 0"),
        ("prices", {"price": True}, 400, "price must be a number"),
        ("prices", {"price": 1, "currency": "dollar"}, 400, "currency must be a code"),
        ("prices", {"price": 1, "source": "elsewhere"}, 400, "source must be one of"),
        (
            "prices/faults",
            {"kind": "reset", "sources": ["x"]},
            400,
            "unknown source: x",
        ),
        (
            "prices/faults",
            {"kind": "reset", "sources": 3},
            400,
            "must be a list of texts",
        ),
        ("prices/faults", {"kind": "body"}, 400, "kind must be one of"),
        ("relay/faults", {"kind": "forge"}, 400, "forge does not apply to event"),
        ("relay/faults", {"kind": "drop", "chance": 2}, 400, "chance"),
        ("relay/faults", {"kind": "drop", "times": "1"}, 400, "times must be"),
        ("relay/faults", {"kind": "drop", "author": 1}, 400, "author must be a text"),
        (
            "relay/faults",
            {"kind": "drop", "kinds": {}},
            400,
            "must be a list of integers",
        ),
        (
            "relay/faults",
            {"kind": "drop", "kinds": ["x"]},
            400,
            "kinds must be an integer",
        ),
        ("relay/settings", {"requires_auth": "maybe"}, 400, "must be true or false"),
        ("nothing", {}, 404, "no POST /_sandbox/nothing"),
    ],
)
def test_invalid_command_is_refused(control, path, body, status, text):
    refused, message = refusal(control, "POST", path, body)

    assert refused == status
    assert text in message


def test_body_that_is_not_a_json_object_is_refused(control):
    assert refusal(control, "POST", "wallets", data=b"{")[0] == 400
    assert refusal(control, "POST", "wallets", data=b"[]") == (
        400,
        "a JSON object is expected",
    )
    assert refusal(control, "GET", "wallets/nobody")[0] == 404
    headers = {"Content-Length": "none"}
    answer = requests.post(
        f"{control.url}/_sandbox/wallets", headers=headers, timeout=60
    )
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Host": "evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
@pytest.mark.parametrize("path", ["/", "/_sandbox/wallets", "/_pages/status.css"])
def test_cross_site_requests_are_refused(lightning, headers, path):
    for method in ("GET", "POST"):
        answer = requests.request(
            method, f"{lightning.url}{path}", headers=headers, timeout=60
        )
        assert answer.status_code == 403
        assert "secret" not in answer.text


def test_restart_keeps_balances_invoices_connections_and_terms(tmp_path):
    state = tmp_path / "wallets.sqlite"
    with running_lightning(seed="seed", state=state) as first:
        control = Control(first.url)
        port = int(first.url.rpartition(":")[2])
        nostr_port = first.relay.port
        alice = control.post("wallets", name="alice", sats=100, budget=50)
        unpaid = bolt11_of(control, sats=7)
        control.post("wallets/alice/pay", bolt11=bolt11_of(control))
        control.post("wallets/rich/behaviour", kind="silent")
        control.post("wallets/poor/budget", budget=1)

    with running_lightning(
        seed="seed", state=state, port=port, nostr_port=nostr_port
    ) as second:
        control = Control(second.url)
        after = control.get("wallets/alice")
        assert after["url"] == alice["url"]
        assert after["balance_msat"] == 79_000
        assert after["budget"]["sats"] == 50
        assert control.get("wallets/poor")["budget"]["sats"] == 1
        assert second.wallets["rich"].behaviour == PAYS
        with wallet_client(alice["url"]) as client:
            client.call("pay_invoice", invoice=unpaid)
        states = [invoice["state"] for invoice in control.get("invoices")["data"]]
        assert states == ["paid", "paid"]


def test_taken_port_is_named_in_the_error(lightning):
    port = int(lightning.url.rpartition(":")[2])
    occupied = {
        lightning.relay.port: running_lightning(nostr_port=lightning.relay.port),
        port: running_lightning(port=port),
    }

    for number, running in occupied.items():
        with pytest.raises(CannotListen, match=f"127.0.0.1:{number}: Addr"), running:
            pass


def test_unreadable_state_is_named_in_the_error(tmp_path):
    state = tmp_path / "wallets.sqlite"
    state.write_text("not a database, and long enough to be one" * 100)

    with (
        pytest.raises(UnreadableState, match=str(state)),
        running_lightning(state=state),
    ):
        pass
