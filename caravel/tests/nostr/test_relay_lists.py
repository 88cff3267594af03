"""Parsing of untrusted relay lists."""

import pytest

from caravel.nostr import generate_secret_key, pubkey_of, relay_lists
from caravel.nostr.events import sign_event
from caravel.nostr.relay_lists import in_batches, latest, write_relays

KEY = generate_secret_key()


def event(*tags, kind=10050, key=KEY, **fields):
    return sign_event(key, kind=kind, content="", tags=tags, **fields)


def message_relays(event, *, private_allowed=False):
    return relay_lists.message_relays(event, private_allowed=private_allowed)


def test_write_relays_are_those_marked_write_or_not_marked():
    relay_list = event(
        ("r", "wss://both.example"),
        ("r", "wss://read.example", "read"),
        ("r", "wss://write.example", "write"),
        ("r", "wss://blank.example", ""),
        ("r",),
        ("relay", "wss://other.example"),
        kind=10002,
    )

    assert write_relays(relay_list, private_allowed=False) == [
        "wss://both.example",
        "wss://write.example",
        "wss://blank.example",
    ]


def test_message_relays_are_those_in_relay_tags():
    event_10050 = event(
        ("relay", "wss://a.example"), ("r", "wss://b.example"), ("relay",)
    )

    assert message_relays(event_10050) == ["wss://a.example"]


def test_long_list_is_cut_to_twenty_relays_of_which_five_are_tried_at_once():
    urls = [f"wss://r{n}.example" for n in range(22)]

    relays = message_relays(event(*[("relay", url) for url in urls]))

    assert relays == urls[:20]
    assert in_batches(relays) == [urls[:5], urls[5:10], urls[10:15], urls[15:20]]
    assert in_batches(urls[:6]) == [urls[:5], urls[5:6]]


@pytest.mark.parametrize(
    ("url", "private_allowed", "is_used"),
    [
        ("wss://a2b3c4d5e6f7.onion", False, False),
        ("wss://a2b3c4d5e6f7.onion", True, False),
        ("wss://relay.i2p.", True, False),
        *[
            (url, private_allowed, private_allowed)
            for private_allowed in (False, True)
            for url in (
                "ws://umbrel.local:4848",
                "ws://UMBREL.LOCAL.",
                "ws://localhost:7777",
                "ws://relay.localhost",
                "wss://relay",
                "ws://relay.home.arpa",
                "ws://fritz.lan",
                "ws://192.168.1.20",
                "ws://127.0.0.1:8080",
                "ws://100.64.0.7",
                "ws://[::1]:80",
                "ws://[fd00::7]",
            )
        ],
        ("wss://1.1.1.1", False, True),
        ("wss://[2606:4700::1111]", False, True),
        ("wss://local.example", False, True),
    ],
)
def test_relay_that_can_never_be_dialled_takes_no_place(url, private_allowed, is_used):
    urls = [url, "wss://a.example"]

    relays = message_relays(
        event(*[("relay", url) for url in urls]), private_allowed=private_allowed
    )

    assert relays == [url.lower()] * is_used + ["wss://a.example"]


@pytest.mark.parametrize(
    ("url", "normalized"),
    [
        ("wss://a.example/", "wss://a.example"),
        (" WSS://A.Example/Path/ ", "wss://a.example/Path"),
        ("ws://a.example:7777", "ws://a.example:7777"),
        ("wss://a.example/?x=1", "wss://a.example/?x=1"),
        ("https://a.example", None),
        ("a.example", None),
        ("wss://", None),
        ("wss:///path", None),
        ("wss://a.example:0", None),
        ("wss://a.example:99999", None),
        ("wss://[half", None),
        ("wss://user:pass@a.example", None),
        ("wss://a.example/#b", None),
        ("wss://a.example/a b", None),
        ("wss://a.example/\x7f", None),
        ("wss://ä.example", None),
        ("wss://" + "a" * 300, None),
    ],
)
def test_url_is_normalized_or_skipped(url, normalized):
    assert message_relays(event(("relay", url))) == ([normalized] if normalized else [])


def test_duplicate_relay_is_removed():
    tags = [("relay", url) for url in ("wss://a.example", "wss://A.example/")]

    assert message_relays(event(*tags)) == ["wss://a.example"]


def test_latest_event_of_author_and_kind_is_returned():
    old, new = event(created_at=10), event(created_at=20)
    others = [
        event(created_at=30, kind=10002),
        event(created_at=30, key=generate_secret_key()),
    ]

    assert latest([new, old, *others], pubkey=pubkey_of(KEY), kind=10050) == new
    assert latest(others, pubkey=pubkey_of(KEY), kind=10050) is None


def test_lower_id_wins_between_events_of_same_second():
    both = [event(("relay", f"wss://{n}.example"), created_at=10) for n in range(2)]

    result = latest(both, pubkey=pubkey_of(KEY), kind=10050)

    assert result and result.id == min(event.id for event in both)
