"""What strangers say of their relays."""

import pytest

from caravel.nostr import generate_secret_key, pubkey_of
from caravel.nostr.events import sign_event
from caravel.nostr.relay_lists import latest, message_relays, write_relays

ANN = generate_secret_key()


def event(*tags, kind=10050, key=ANN, **fields):
    return sign_event(key, kind=kind, content="", tags=tags, **fields)


def test_written_to_are_the_relays_marked_so_or_not_marked():
    found = event(
        ("r", "wss://both.example"),
        ("r", "wss://read.example", "read"),
        ("r", "wss://write.example", "write"),
        ("r", "wss://blank.example", ""),
        ("r",),
        ("relay", "wss://other.example"),
        kind=10002,
    )

    assert write_relays(found) == [
        "wss://both.example",
        "wss://write.example",
        "wss://blank.example",
    ]


def test_messages_go_to_the_relays_of_the_other_tag():
    found = event(("relay", "wss://a.example"), ("r", "wss://b.example"), ("relay",))

    assert message_relays(found) == ["wss://a.example"]


def test_of_a_long_list_the_first_five_count():
    urls = [f"wss://r{n}.example" for n in range(9)]

    assert message_relays(event(*[("relay", url) for url in urls])) == urls[:5]


@pytest.mark.parametrize(
    ("given", "read"),
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
def test_an_address_is_read_in_one_spelling_or_left_out(given, read):
    assert message_relays(event(("relay", given))) == ([read] if read else [])


def test_a_relay_named_twice_counts_once():
    tags = [("relay", url) for url in ("wss://a.example", "wss://A.example/")]

    assert message_relays(event(*tags)) == ["wss://a.example"]


def test_the_newest_event_of_that_author_and_kind_counts():
    old, new = event(created_at=10), event(created_at=20)
    others = [
        event(created_at=30, kind=10002),
        event(created_at=30, key=generate_secret_key()),
    ]

    assert latest([new, old, *others], pubkey=pubkey_of(ANN), kind=10050) == new
    assert latest(others, pubkey=pubkey_of(ANN), kind=10050) is None


def test_of_two_of_the_same_second_the_lower_id_counts():
    both = [event(("relay", f"wss://{n}.example"), created_at=10) for n in range(2)]

    found = latest(both, pubkey=pubkey_of(ANN), kind=10050)

    assert found and found.id == min(one.id for one in both)
