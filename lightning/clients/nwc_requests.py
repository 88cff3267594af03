"""Requests of NIP-47 to a wallet: encrypted, sent, and their replies read.

https://github.com/nostr-protocol/nips/blob/master/47.md
"""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any

from caravel.core.db.transactions import release_connection
from caravel.core.exceptions import CaravelError
from caravel.nostr.encryption import Scheme, encrypt
from caravel.nostr.events import Event, sign_event
from caravel.nostr.relays.dial import Endpoint, RelayUnreachable
from caravel.nostr.relays.exchange import Sending
from caravel.nostr.relays.pool import EventRefused, pool_for
from lightning.clients.clock import CLOCK_TOLERANCE
from lightning.clients.nwc_content import decrypt_content
from lightning.clients.nwc_info import Capabilities, capabilities_of, learn_scheme
from lightning.clients.nwc_replies import read_reply
from lightning.clients.nwc_uri import NwcUri
from lightning.clients.pace import Pace
from lightning.exceptions import (
    NoWalletReply,
    RelayRefused,
    RequestNotSent,
    WalletBusy,
    WalletError,
)

REQUEST, RESPONSE = 23194, 23195
_OTHER = {Scheme.NIP44: Scheme.NIP04, Scheme.NIP04: Scheme.NIP44}
#: The result of a request, or its error.
Reply = dict[str, Any] | WalletError


@dataclass(frozen=True)
class PreparedRequest:
    """A signed and encrypted request: its id is known before it is sent."""

    method: str
    event: Event
    scheme: Scheme

    @property
    def id(self) -> str:
        return self.event.id


class Client:
    """The client of a wallet connection, see `Wallet`."""

    def __init__(
        self, uri: NwcUri, endpoints: Sequence[Endpoint], pace: Pace | None
    ) -> None:
        self.uri = uri
        self.endpoints = endpoints
        self._pace = pace

    @property
    def capabilities(self) -> Capabilities:
        """The content of the wallet's info event.

        Raises RequestNotSent if no relay answers.
        """
        (found,) = capabilities_of([(self.uri, self.endpoints)])
        if isinstance(found, RequestNotSent):
            raise found
        return found

    def call(
        self, method: str, calls: Sequence[Mapping[str, object]], timeout: float
    ) -> list[Reply]:
        """Send requests that may be sent twice; return a reply to each.

        Those that the wallet cannot decrypt are sent again in the other encryption.
        Raises RequestNotSent if no relay can be reached.
        """

        def send(numbers: Sequence[int]) -> list[Reply]:
            requests = [self.prepare(method, calls[i], timeout) for i in numbers]
            return self.send(requests, timeout)

        return repeat_unreadable(send, len(calls))

    def prepare(
        self,
        method: str,
        params: Mapping[str, object],
        timeout: float,
        *,
        expires_at: datetime | None = None,
    ) -> PreparedRequest:
        """Build a request, which expires by default after the time-out."""
        scheme = self.capabilities.scheme
        body = json.dumps({"method": method, "params": params})
        end = expires_at.timestamp() if expires_at else time.time() + timeout
        # Whole seconds, rounded up: the request must not expire early by any clock.
        until = math.ceil(end + CLOCK_TOLERANCE.total_seconds())
        tags = [("p", self.uri.pubkey), ("expiration", str(until))]
        if scheme is Scheme.NIP44:
            tags.append(("encryption", scheme.value))
        event = sign_event(
            self.uri.secret,
            kind=REQUEST,
            content=encrypt(scheme, self.uri.secret, self.uri.pubkey, body),
            tags=tags,
        )
        return PreparedRequest(method, event, scheme)

    def send(self, requests: Sequence[PreparedRequest], timeout: float) -> list[Reply]:
        """Send requests once and return a reply to each.

        The pool subscribes before it publishes: relays do not store ephemeral events,
        so an earlier response would be lost. The first response that names the request
        in its `e` tag counts.
        """
        allowed = self._pace.take(len(requests)) if self._pace else len(requests)
        release_connection()
        pool = pool_for(self.endpoints)
        sendings = [self.sending(request) for request in requests[:allowed]]
        answers = dict(chain.from_iterable(pool.request_each(sendings, timeout)))
        sent = enumerate(requests[:allowed])
        return [
            *(self.read(request, answers[i]) for i, request in sent),
            *(_busy() for _ in requests[allowed:]),
        ]

    def sending(self, request: PreparedRequest) -> Sending:
        """Return a request as the pool sends it."""
        return Sending(
            self.endpoints,
            request.event,
            author=self.uri.pubkey,
            kind=RESPONSE,
            secret_key=self.uri.secret,
        )

    def read(self, request: PreparedRequest, answer: Event | CaravelError) -> Reply:
        """Return the reply in a wallet's answer, and learn from an error."""
        if isinstance(answer, RelayUnreachable):
            return RequestNotSent(answer.message)
        if isinstance(answer, EventRefused):
            return RelayRefused(answer.message)
        if isinstance(answer, CaravelError):
            return NoWalletReply("The wallet does not answer.")
        try:
            return read_reply(request.method, decrypt_content(self.uri, answer))
        except WalletError as exc:
            return self._heed(request, exc)

    def _heed(self, request: PreparedRequest, error: WalletError) -> WalletError:
        """Learn from an error; return it."""
        if _is_unreadable(error):
            learn_scheme(self.uri, _OTHER[request.scheme])
        if error.nwc_code == "RATE_LIMITED" and self._pace:
            self._pace.pause()
            return _busy()
        return error


def repeat_unreadable(
    send: Callable[[Sequence[int]], list[Reply]], number: int
) -> list[Reply]:
    """Send so many requests, and those that were not readable once more.

    `send` takes the positions of the requests and returns their replies.
    """
    replies = send(range(number))
    unread = [i for i, reply in enumerate(replies) if _is_unreadable(reply)]
    if unread:
        for i, reply in zip(unread, send(unread), strict=True):
            replies[i] = reply
    return replies


def _is_unreadable(reply: Reply) -> bool:
    """Return whether the wallet does not understand the encryption of a request."""
    code = reply.nwc_code if isinstance(reply, WalletError) else ""
    return code == "UNSUPPORTED_ENCRYPTION"


def _busy() -> WalletBusy:
    return WalletBusy("Our wallet has had too many requests. Please try again soon.")
