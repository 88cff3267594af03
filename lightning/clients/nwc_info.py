"""A wallet's info event (kind 13194), cached: its methods, and how to encrypt.

A wallet without one, since relays drop old events, is assumed to understand NIP-04, as
NIP-47 says, until its answers show otherwise.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from caravel.core.db.transactions import release_connection
from caravel.nostr.encryption import Scheme
from caravel.nostr.events import Event
from caravel.nostr.relays.dial import Endpoint, RelayUnreachable
from caravel.nostr.relays.pool import pool_for
from lightning.clients.nwc_uri import NwcUri
from lightning.exceptions import RequestNotSent

INFO = 13194
_TIMEOUT = 5.0
#: Seconds for which it is cached, and for which an assumption is.
_TTL, _ASSUMED_TTL = 600.0, 30.0


@dataclass(frozen=True)
class Capabilities:
    """A wallet's encryption and methods; `is_assumed` if nothing has shown them."""

    scheme: Scheme
    methods: frozenset[str] = frozenset()
    is_assumed: bool = False


_Key = tuple[str, tuple[str, ...]]
_cache: dict[_Key, tuple[Capabilities, float]] = {}


def clear_scheme_cache() -> None:
    """Forget the capabilities of all wallets."""
    _cache.clear()


def capabilities_of(uri: NwcUri, endpoints: Sequence[Endpoint]) -> Capabilities:
    """Return the content of a wallet's info event.

    Raises RequestNotSent if no relay answers.
    """
    cached = _cache.get(_key(uri))
    if cached is not None and time.monotonic() <= cached[1]:
        return cached[0]
    return _remember(uri, _read(_fetch(uri, endpoints)))


def learn_scheme(uri: NwcUri, scheme: Scheme) -> None:
    """Use this encryption from now on: the wallet's answers have shown it."""
    known, _ = _cache.get(_key(uri), (Capabilities(scheme), 0.0))
    _remember(uri, Capabilities(scheme, known.methods))


def _remember(uri: NwcUri, capabilities: Capabilities) -> Capabilities:
    if len(_cache) > 10_000:
        _cache.clear()
    ttl = _ASSUMED_TTL if capabilities.is_assumed else _TTL
    _cache[_key(uri)] = capabilities, time.monotonic() + ttl
    return capabilities


def _key(uri: NwcUri) -> _Key:
    return uri.pubkey, uri.relays


def _fetch(uri: NwcUri, endpoints: Sequence[Endpoint]) -> Event | None:
    """Return the newest info event, if there is one."""
    release_connection()
    filters = [{"kinds": [INFO], "authors": [uri.pubkey], "limit": 1}]
    try:
        result = pool_for(endpoints).fetch(
            endpoints, filters, timeout=_TIMEOUT, secret_key=uri.secret
        )
    except RelayUnreachable as exc:
        raise RequestNotSent(exc.message) from exc
    if not result.answered and not result.events:
        raise RequestNotSent("The wallet's relays do not answer.")
    infos = [e for e in result.events if e.kind == INFO and e.pubkey == uri.pubkey]
    return max(infos, key=lambda event: event.created_at, default=None)


def _read(info: Event | None) -> Capabilities:
    if info is None:
        return Capabilities(Scheme.NIP04, is_assumed=True)
    offered = _words(" ".join(info.values("encryption")))
    scheme = Scheme.NIP44 if Scheme.NIP44 in offered else Scheme.NIP04
    return Capabilities(scheme, methods=_words(info.content))


def _words(text: str) -> frozenset[str]:
    # NIP-47 says spaces; some wallets separate with commas.
    return frozenset(re.split(r"[\s,]+", text))
