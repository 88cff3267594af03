import pytest

from caravel.nostr import generate_secret_key, pubkey_of
from caravel.nostr.relays.dial import is_public
from lightning.clients.nwc_uri import parse_nwc_url
from lightning.exceptions import InvalidWalletUrl

SECRET = generate_secret_key()
WALLET = pubkey_of(generate_secret_key())
RELAY = "relay=wss%3A%2F%2Frelay.example.com"


def url(
    relay=RELAY, secret=f"secret={SECRET}", key=WALLET, scheme="nostr+walletconnect://"
):
    return f"{scheme}{key}?{relay}&{secret}"


def test_connection_string_round_trip():
    uri = parse_nwc_url(
        url() + "&relay=wss://R2.example.com:8443/path&lud16=ann%40example.com"
    )

    assert uri.pubkey == WALLET
    assert uri.relays == (
        "wss://relay.example.com",
        "wss://r2.example.com:8443/path",
    )
    assert uri.client_pubkey == pubkey_of(SECRET)
    assert uri.lud16 == "ann@example.com"
    assert parse_nwc_url(uri.to_url()) == uri


@pytest.mark.parametrize(
    "scheme",
    [
        "nostr+walletconnect://",
        "nostr+walletconnect:",
        "nostrwalletconnect://",
        "NOSTR+WalletConnect://",
    ],
)
def test_scheme_variants_of_wallets_are_accepted(scheme):
    assert parse_nwc_url(f"  {url(scheme=scheme)}\n").pubkey == WALLET


def test_secret_is_not_in_repr():
    uri = parse_nwc_url(url())

    for text in (repr(uri), str(uri), f"{uri}", f"{[uri]}"):
        assert SECRET not in text
        assert WALLET in text
        assert "relay.example.com" in text


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "nwc-url-invalid"),
        ("https://example.com", "nwc-url-invalid"),
        ("nostr+walletconnect://", "nwc-pubkey-invalid"),
        (url(key="ab"), "nwc-pubkey-invalid"),
        (url(key="0" * 64), "nwc-pubkey-invalid"),
        (url(secret=""), "nwc-secret-invalid"),
        (url(secret="secret="), "nwc-secret-invalid"),
        (url(secret="secret=abc"), "nwc-secret-invalid"),
        (url(secret=f"secret={'0' * 64}"), "nwc-secret-invalid"),
        (url(secret=f"secret={SECRET}&secret={SECRET}"), "nwc-secret-invalid"),
        (url(relay="x=1"), "nwc-relay-missing"),
        (url(relay="relay="), "nwc-relay-invalid"),
        (url(relay="relay=https://r.example.com"), "nwc-relay-invalid"),
        (url(relay="relay=wss://"), "nwc-relay-invalid"),
        (url(relay="relay=wss://user:pw@r.example.com"), "nwc-relay-invalid"),
        (url(relay="relay=wss://r.example.com:99999"), "nwc-relay-invalid"),
        (url(relay="relay=wss://[::1"), "nwc-relay-invalid"),
        (url(relay="relay=wss://a.example.com,b.example.com"), "nwc-relay-invalid"),
        (url(relay="relay=ftp://x&relay=ws://printer"), "nwc-relay-invalid"),
        (url(relay="relay=ws://printer&relay=ftp://x"), "nwc-relay-private"),
        (url(relay="relay=ws://localhost:7777"), "nwc-relay-private"),
        (url(relay="relay=ws://printer"), "nwc-relay-private"),
        (url(relay="relay=ws://nas.local"), "nwc-relay-private"),
        (url(relay="relay=ws://a2b3c4d5e6f7.onion"), "nwc-relay-invalid"),
        (url(relay="relay=wss://127.0.0.1"), "nwc-relay-private"),
        (url(relay="relay=wss://10.1.2.3"), "nwc-relay-private"),
        (url(relay="relay=wss://169.254.169.254"), "nwc-relay-private"),
        (url(relay="relay=wss://[::1]:80"), "nwc-relay-private"),
        (url(relay="relay=wss://[fe80::1]"), "nwc-relay-private"),
        (url(relay="relay=wss://[::ffff:10.0.0.1]"), "nwc-relay-private"),
        (url() + "&x=" + "y" * 2_000, "nwc-url-invalid"),
        (url() + "\x00", "nwc-url-invalid"),
        (url() + "&x" * 60, "nwc-url-invalid"),
        (url(relay="relay=wss://r.example.com/%0d%0aX"), "nwc-relay-invalid"),
        (url(relay="relay=wss://r.example.com/a%20HTTP/1.1"), "nwc-relay-invalid"),
    ],
)
def test_error_has_a_code_and_does_not_repeat_the_input(text, code):
    with pytest.raises(InvalidWalletUrl) as caught:
        parse_nwc_url(text)

    assert caught.value.code == code
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("others", "reason"),
    [
        ("relay=", "must be wss://host"),
        ("relay=https://r.example.com", "must be wss://host"),
        ("relay=wss://user:pw@r.example.com", "must be wss://host"),
        ("relay=wss://a.example.com,b.example.com", "must be wss://host"),
        ("relay=ws://a2b3c4d5e6f7.onion", "like Tor"),
        ("relay=ws://nas.local", "private network"),
        ("relay=wss://10.1.2.3", "private network"),
    ],
)
@pytest.mark.parametrize("usable_first", [True, False])
def test_one_unusable_relay_does_not_refuse_the_others(others, reason, usable_first):
    relays = [RELAY, others] if usable_first else [others, RELAY]

    uri = parse_nwc_url(url(relay="&".join(relays)))

    assert uri.relays == ("wss://relay.example.com",)
    (sentence,) = uri.left_out
    assert sentence.startswith(f"Relay {2 if usable_first else 1} is left out: ")
    assert reason in sentence
    assert "pw" not in sentence
    assert parse_nwc_url(uri.to_url()) == uri
    assert parse_nwc_url(uri.to_url()).left_out == ()


def test_surplus_relays_are_left_out():
    relays = "&".join(f"relay=wss://r{n}.example.com" for n in range(7))

    uri = parse_nwc_url(url(relay=relays))

    assert uri.relays == tuple(f"wss://r{n}.example.com" for n in range(5))
    assert uri.left_out == (
        "Relay 6 is left out: Only 5 relays are used.",
        "Relay 7 is left out: Only 5 relays are used.",
    )


@pytest.mark.parametrize(
    "relay",
    [
        "relay=wss://a.example.com,wss://b.example.com/x",
        "relay=wss%3A%2F%2Fa.example.com%2Cwss%3A%2F%2Fb.example.com%2Fx",
        "relay=wss://a.example.com, WSS://b.example.com/x,",
        "relay=wss://a.example.com wss://b.example.com/x",
        "relay=wss://a.example.com&relay=wss://b.example.com/x,wss://a.example.com",
    ],
)
def test_several_relays_in_one_parameter_are_several(relay):
    uri = parse_nwc_url(url(relay=relay))

    assert uri.relays == ("wss://a.example.com", "wss://b.example.com/x")
    assert uri.left_out == ()


def test_comma_in_the_path_of_a_relay_stays():
    uri = parse_nwc_url(url(relay="relay=wss://a.example.com/x,y"))

    assert uri.relays == ("wss://a.example.com/x,y",)


def test_private_relay_is_accepted_if_allowed():
    uri = parse_nwc_url(url(relay="relay=ws://127.0.0.1:7777"), private_allowed=True)

    assert uri.relays == ("ws://127.0.0.1:7777",)
    assert uri.endpoints(private_allowed=True)[0].private_allowed


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("1.1.1.1", True),
        ("2606:4700:4700::1111", True),
        ("127.0.0.1", False),
        ("10.0.0.1", False),
        ("100.64.0.1", False),
        ("169.254.1.1", False),
        ("192.168.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::101:101", True),
        ("2002:7f00:1::", False),
        ("fec0::1", False),
        ("64:ff9b:1::a00:1", False),
        ("::ffff:0:10.0.0.1", False),
        ("3fff::1", False),
        ("192.0.0.192", False),
        ("192.88.99.1", False),
        ("168.63.129.16", False),
        ("::ffff:192.0.0.192", False),
    ],
)
def test_private_and_reserved_addresses_are_not_public(address, public):
    assert is_public(address) is public
