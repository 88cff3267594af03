"""A wallet's info event (kind 13194), cached: its methods, and how to encrypt.

A wallet without one, since relays drop old events, is assumed to understand NIP-04, as
NIP-47 says, until its answers show otherwise.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from caravel.core.db.transactions import release_connection
from caravel.core.exceptions import CaravelError
from caravel.nostr.encryption import Scheme
from caravel.nostr.events import Event
from caravel.nostr.relays.dial import Endpoint
from caravel.nostr.relays.pool import FetchResult, pool_for
from caravel.nostr.relays.subscriptions import Filter
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


#: A wallet and its relays.
Address = tuple[NwcUri, Sequence[Endpoint]]
_Key = tuple[str, tuple[str, ...]]
_cache: dict[_Key, tuple[Capabilities, float]] = {}


def clear_scheme_cache() -> None:
    """Forget the capabilities of all wallets."""
    _cache.clear()


def capabilities_of(wallets: Sequence[Address]) -> list[Capabilities | RequestNotSent]:
    """Return the contents of wallets' info events, RequestNotSent if no relay answers.

    The wallets are all tenants', or all ours.
    """
    found: dict[_Key, Capabilities | RequestNotSent] = {
        _key(uri): cached for uri, _ in wallets if (cached := _cached(uri))
    }
    unknown = [address for address in wallets if _key(address[0]) not in found]
    if unknown:
        found |= _fetch(unknown)
    return [found[_key(uri)] for uri, _ in wallets]


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


def _cached(uri: NwcUri) -> Capabilities | None:
    capabilities, until = _cache.get(_key(uri), (None, 0.0))
    return capabilities if time.monotonic() <= until else None


def _fetch(wallets: Sequence[Address]) -> dict[_Key, Capabilities | RequestNotSent]:
    """Fetch info events, with one subscription for all wallets of the same relays."""
    by_relays: dict[tuple[Endpoint, ...], list[NwcUri]] = {}
    for uri, endpoints in wallets:
        by_relays.setdefault(tuple(endpoints), []).append(uri)
    release_connection()
    results = pool_for([*chain.from_iterable(by_relays)]).fetch_each(
        [
            (relays, [_filter(uris)], [uri.secret for uri in uris])
            for relays, uris in by_relays.items()
        ],
        timeout=_TIMEOUT,
    )
    return {
        _key(uri): _learn(uri, result)
        for uris, result in zip(by_relays.values(), results, strict=True)
        for uri in uris
    }


def _filter(uris: Sequence[NwcUri]) -> Filter:
    authors = [*dict.fromkeys(uri.pubkey for uri in uris)]
    return {"kinds": [INFO], "authors": authors, "limit": len(authors)}


def _learn(
    uri: NwcUri, result: FetchResult | CaravelError
) -> Capabilities | RequestNotSent:
    if not isinstance(result, FetchResult):
        return RequestNotSent(result.message)
    infos = [e for e in result.events if e.kind == INFO and e.pubkey == uri.pubkey]
    if not result.answered and not infos:
        return RequestNotSent("The wallet's relays do not answer.")
    newest = max(infos, key=lambda event: event.created_at, default=None)
    return _remember(uri, _read(newest))


def _read(info: Event | None) -> Capabilities:
    if info is None:
        return Capabilities(Scheme.NIP04, is_assumed=True)
    offered = _words(" ".join(info.values("encryption")))
    scheme = Scheme.NIP44 if Scheme.NIP44 in offered else Scheme.NIP04
    return Capabilities(scheme, methods=_words(info.content))


def _words(text: str) -> frozenset[str]:
    # NIP-47 says spaces; some wallets separate with commas.
    return frozenset(re.split(r"[\s,]+", text))
