"""Wallet connection strings: `nostr+walletconnect://` (NIP-47)."""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, urlsplit

from caravel.core.exceptions import CaravelError
from caravel.nostr import is_secret_key, parse_pubkey, pubkey_of
from caravel.nostr.relays.dial import Endpoint, is_public, normalize_relay_url
from lightning.exceptions import InvalidWalletUrl

_SCHEME = re.compile(r"nostr\+?walletconnect:(?://)?", re.IGNORECASE)
_LONGEST = 2_000
_MOST_RELAYS = 5
_LIGHTNING_ADDRESS = re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+", re.ASCII)


@dataclass(frozen=True, repr=False)
class NwcUri:
    """A connection to a wallet. It holds a secret that can spend: see `to_url`.

    `pubkey` is the wallet's; the client's own is that of the secret.
    """

    pubkey: str
    relays: tuple[str, ...]
    secret: str
    lud16: str = ""

    @property
    def client_pubkey(self) -> str:
        """The public key that the wallet knows this connection by."""
        return pubkey_of(self.secret)

    @property
    def hosts(self) -> str:
        """The relays' hosts, for people."""
        return ", ".join(urlsplit(relay).netloc for relay in self.relays)

    def endpoints(self, *, private_allowed: bool) -> list[Endpoint]:
        """Return where the wallet listens, with the right to dial it."""
        return [Endpoint(relay, private_allowed) for relay in self.relays]

    def to_url(self) -> str:
        """Return the whole connection string, with the secret in it."""
        relays = "".join(f"relay={quote(relay, safe='')}&" for relay in self.relays)
        lud16 = f"&lud16={quote(self.lud16)}" if self.lud16 else ""
        url = f"nostr+walletconnect://{self.pubkey}?{relays}secret={self.secret}"
        return url + lud16

    def __repr__(self) -> str:
        return f"<NwcUri {self.pubkey} at {self.hosts}>"

    __str__ = __repr__


def parse_nwc_url(text: str, *, private_allowed: bool = False) -> NwcUri:
    """Read a connection string as wallets give it.

    Raises InvalidWalletUrl, whose code says which part is wrong; nothing of the input
    is repeated. Relays on private addresses are refused unless allowed. A name may
    still lead to one: that is judged at each connection.
    """
    text = text.strip()
    scheme = _SCHEME.match(text)
    if not scheme or len(text) > _LONGEST or not text.isprintable():
        raise InvalidWalletUrl("A wallet's address begins with nostr+walletconnect://.")
    key, _, query = text[scheme.end() :].partition("?")
    given = _fields(query)
    return NwcUri(
        pubkey=_pubkey(key.rstrip("/")),
        relays=_relays(given.get("relay", []), private_allowed),
        secret=_secret(given.get("secret", [])),
        lud16=_lud16(given.get("lud16", [])),
    )


def _fields(query: str) -> dict[str, list[str]]:
    try:
        return parse_qs(query, keep_blank_values=True, max_num_fields=50)
    except ValueError as exc:
        raise InvalidWalletUrl("A wallet's address has fewer parts.") from exc


def _pubkey(text: str) -> str:
    try:
        return parse_pubkey(text)
    except CaravelError as exc:
        raise _invalid("pubkey", "The wallet's public key is not one.") from exc


def _secret(given: list[str]) -> str:
    if len(given) != 1 or not is_secret_key(given[0].strip().lower()):
        raise _invalid("secret", "The secret must be 64 hex digits, given once.")
    return given[0].strip().lower()


def _lud16(given: list[str]) -> str:
    """Return the Lightning address; one that is malformed is of no use to us."""
    return given[0] if given and _LIGHTNING_ADDRESS.fullmatch(given[0]) else ""


def _relays(given: list[str], private_allowed: bool) -> tuple[str, ...]:
    relays = dict.fromkeys(_relay(text.strip(), private_allowed) for text in given)
    if not relays:
        raise _invalid("relay", "The wallet's address names no relay.", "missing")
    if len(relays) > _MOST_RELAYS:
        raise _invalid("relay", f"More than {_MOST_RELAYS} relays are too many.")
    return tuple(relays)


def _relay(text: str, private_allowed: bool) -> str:
    # What was percent-encoded may be anything.
    relay = normalize_relay_url(text)
    if not relay:
        raise _invalid("relay", "A relay's address is wss://host, with nothing secret.")
    if not private_allowed and _is_private(urlsplit(relay).hostname or ""):
        raise _invalid("relay", "The relay is on a private network.", "private")
    return relay


def _is_private(host: str) -> bool:
    """Return whether a host is private by its mere spelling."""
    host = host.rstrip(".").lower()
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith((".localhost", ".local", ".internal"))
    return not is_public(host)


def _invalid(part: str, sentence: str, fault: str = "invalid") -> InvalidWalletUrl:
    return InvalidWalletUrl(sentence, code=f"nwc-{part}-{fault}")
