"""Wallet connection strings: `nostr+walletconnect://` (NIP-47)."""

import re
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import parse_qs, quote, urlsplit

from caravel.core.exceptions import CaravelError
from caravel.nostr import is_secret_key, parse_pubkey, pubkey_of
from caravel.nostr.relays.dial import Endpoint, may_answer, normalize_relay_url
from lightning.exceptions import InvalidWalletUrl

_SCHEME = re.compile(r"nostr\+?walletconnect:(?://)?", re.IGNORECASE)
_MAX_LENGTH = 2_000
_MAX_RELAYS = 5
_SEPARATOR = re.compile(r"(?<![,\s])[,\s]++(?=wss?://)", re.IGNORECASE)
_LIGHTNING_ADDRESS = re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+", re.ASCII)


@dataclass(frozen=True, repr=False)
class NwcUri:
    """A connection to a wallet. Its secret can spend: do not log `to_url`.

    `pubkey` is the wallet's public key, `client_pubkey` belongs to the secret.
    `left_out`: a sentence for each relay of the connection string that is not used.
    """

    pubkey: str
    relays: tuple[str, ...]
    secret: str
    lud16: str = ""
    left_out: tuple[str, ...] = field(default=(), compare=False)

    @cached_property
    def client_pubkey(self) -> str:
        """The public key by which the wallet identifies this connection."""
        return pubkey_of(self.secret)

    @property
    def hosts(self) -> str:
        """The relays' hosts, for display."""
        return ", ".join(urlsplit(relay).netloc for relay in self.relays)

    def endpoints(
        self, *, private_allowed: bool, is_ours: bool = False
    ) -> list[Endpoint]:
        """Return the relays as endpoints that may be dialled."""
        return [Endpoint(relay, private_allowed, is_ours) for relay in self.relays]

    def to_url(self) -> str:
        """Return the connection string, including the secret."""
        relays = "".join(f"relay={quote(relay, safe='')}&" for relay in self.relays)
        lud16 = f"&lud16={quote(self.lud16)}" if self.lud16 else ""
        url = f"nostr+walletconnect://{self.pubkey}?{relays}secret={self.secret}"
        return url + lud16

    def __repr__(self) -> str:
        return f"<NwcUri {self.pubkey} at {self.hosts}>"

    __str__ = __repr__


def parse_nwc_url(text: str, *, private_allowed: bool = False) -> NwcUri:
    """Parse a connection string.

    Raises InvalidWalletUrl with a code for the invalid part; its message contains
    nothing of the input. Relays that are invalid, surplus, or private without being
    allowed are left out if there are others. A host name may still resolve to a private
    address: that is checked at each connection.
    """
    text = text.strip()
    # Wallets write the scheme in several ways.
    scheme = _SCHEME.match(text)
    if not scheme or len(text) > _MAX_LENGTH or not text.isprintable():
        raise InvalidWalletUrl("A wallet's address begins with nostr+walletconnect://.")
    key, _, query = text[scheme.end() :].partition("?")
    fields = _fields(query)
    pubkey = _pubkey(key.rstrip("/"))
    relays, left_out = _relays(fields.get("relay", []), private_allowed)
    return NwcUri(
        pubkey=pubkey,
        relays=relays,
        secret=_secret(fields.get("secret", [])),
        lud16=_lud16(fields.get("lud16", [])),
        left_out=left_out,
    )


def _fields(query: str) -> dict[str, list[str]]:
    try:
        return parse_qs(query, keep_blank_values=True, max_num_fields=50)
    except ValueError as exc:
        raise InvalidWalletUrl("A wallet's address has too many parts.") from exc


def _pubkey(text: str) -> str:
    try:
        return parse_pubkey(text)
    except CaravelError as exc:
        raise _invalid("pubkey", "The wallet's public key is invalid.") from exc


def _secret(values: list[str]) -> str:
    if len(values) != 1 or not is_secret_key(values[0].strip().lower()):
        raise _invalid("secret", "The secret must be 64 hex digits, given once.")
    return values[0].strip().lower()


def _lud16(values: list[str]) -> str:
    """Return the Lightning address, "" if it is malformed: it is only informative."""
    return values[0] if values and _LIGHTNING_ADDRESS.fullmatch(values[0]) else ""


def _relays(
    values: list[str], private_allowed: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the usable relays, and a sentence for each of the others."""
    relays: list[str] = []
    errors: dict[int, InvalidWalletUrl] = {}
    # Some wallets write several relays into one parameter.
    texts = [text for value in values for text in _SEPARATOR.split(value)]
    for number, text in enumerate(texts, start=1):
        try:
            relay = _relay(text.strip(" ,"), private_allowed)
        except InvalidWalletUrl as exc:
            errors[number] = exc
            continue
        if relay in relays:
            continue
        if len(relays) == _MAX_RELAYS:
            errors[number] = _invalid("relay", f"Only {_MAX_RELAYS} relays are used.")
        else:
            relays.append(relay)
    if not relays:
        missing = _invalid("relay", "The wallet's address names no relay.", "missing")
        raise next(iter(errors.values()), missing)
    left_out = (f"Relay {n} is left out: {exc.message}" for n, exc in errors.items())
    return tuple(relays), tuple(left_out)


def _relay(text: str, private_allowed: bool) -> str:
    # Percent-decoded by now, so it may contain anything.
    relay = normalize_relay_url(text)
    if not relay or "," in urlsplit(relay).netloc:
        raise _invalid(
            "relay", "A relay's address must be wss://host, without credentials."
        )
    if not may_answer(relay, private_allowed=True):
        raise _invalid("relay", "The relay is in another network, like Tor.")
    if not may_answer(relay, private_allowed=private_allowed):
        raise _invalid("relay", "The relay is on a private network.", "private")
    return relay


def _invalid(part: str, message: str, problem: str = "invalid") -> InvalidWalletUrl:
    return InvalidWalletUrl(message, code=f"nwc-{part}-{problem}")
