"""Requests of NIP-47 to many tenants' wallets at once."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

import structlog

from caravel.core.db.transactions import release_connection
from caravel.core.exceptions import CaravelError
from caravel.nostr.events import Event
from caravel.nostr.relays.pool import pool_for
from caravel.nostr.relays.shared_connections import TooManyConnections
from lightning.clients.nwc_info import Capabilities, capabilities_of, learn_scheme
from lightning.clients.nwc_requests import (
    Client,
    PreparedRequest,
    Reply,
    repeat_unreadable,
)
from lightning.exceptions import (
    InvalidWalletReply,
    NoWalletReply,
    RequestNotSent,
    WalletError,
)

logger = structlog.get_logger(__name__)

#: Seconds to wait for the reply to a request that only shows how the wallet encrypts.
_PROBE_TIMEOUT = 5.0
#: Seconds that a batch waits for room.
_MAX_WAIT = 60.0
#: A request to one of the wallets.
Message = tuple[Client, PreparedRequest]


@dataclass(frozen=True)
class Load:
    """Part of what batches share: connections to relays, and requests on their way."""

    relays: int = 0
    requests: int = 0

    def __add__(self, other: "Load") -> "Load":
        return Load(self.relays + other.relays, self.requests + other.requests)

    def __sub__(self, other: "Load") -> "Load":
        return Load(self.relays - other.relays, self.requests - other.requests)

    def has_room_for(self, other: "Load") -> bool:
        """Return whether no part of the other is larger."""
        return self.relays >= other.relays and self.requests >= other.requests


class Room:
    """Room that the batches of this process share.

    Batches of wallets at the same relay each count it.
    """

    def __init__(self, size: Load) -> None:
        self._free = size
        self._changed = threading.Condition()

    @contextmanager
    def take(self, load: Load) -> Iterator["Held"]:
        """Wait for so much room. Raises TooManyConnections.

        Meanwhile the database connection is released.
        """
        release_connection()
        with self._changed:
            if not self._changed.wait_for(
                lambda: self._free.has_room_for(load), _MAX_WAIT
            ):
                raise TooManyConnections("Too many wallets are paying at the moment.")
            self._free -= load
        held = Held(self, load)
        try:
            yield held
        finally:
            held.keep(Load())

    def give_back(self, load: Load) -> None:
        """Let others use so much again."""
        with self._changed:
            self._free += load
            self._changed.notify_all()


class Held:
    """The room that one batch may use."""

    def __init__(self, room: Room, load: Load) -> None:
        self._room, self._load = room, load

    def keep(self, load: Load) -> None:
        """Keep so much, and give back the rest."""
        self._room.give_back(self._load - load)
        self._load = load


#: Fewer relays than the connections to one host (caravel/nostr/relays/limits.py), since
#: some services give each wallet a URL of its own. Fewer requests than our own wallet,
#: which is asked about each of them, or a relay may answer late: those that time out
#: are repeated, and add to the load (docs/adr/0046-wallets-are-paid-in-batches.md).
ROOM = Room(Load(relays=128, requests=500))


def send_each(
    messages: Sequence[Message], timeout: float
) -> Iterator[list[tuple[int, Reply]]]:
    """Send requests once; yield the replies in groups as they arrive.

    Each comes with the position of its request. Between two groups the database
    connection is released.
    """
    if not messages:
        return
    sendings = [client.sending(request) for client, request in messages]
    pool = pool_for([*chain.from_iterable(each.endpoints for each in sendings)])
    release_connection()
    for answers in pool.request_each(sendings, timeout):
        replies = [(i, *messages[i], answer) for i, answer in answers]
        yield [(i, _read(client, sent, answer)) for i, client, sent, answer in replies]
        release_connection()


def _read(client: Client, sent: PreparedRequest, answer: Event | CaravelError) -> Reply:
    """Read an answer; one that causes an unexpected error is unreadable."""
    try:
        return client.read(sent, answer)
    except Exception:  # of any kind, since it must not end the others' payments
        logger.exception("reply_not_read", wallet=client.uri.pubkey)
        return InvalidWalletReply("The wallet's answer is unreadable.")


def call_each(clients: Sequence[Client], method: str, timeout: float) -> list[Reply]:
    """Send all wallets a request without parameters that may be sent twice."""
    found = capabilities_of([(client.uri, client.endpoints) for client in clients])
    lost: dict[int, Reply] = {
        i: each for i, each in enumerate(found) if isinstance(each, RequestNotSent)
    }

    def send(numbers: Sequence[int]) -> list[Reply]:
        reached = [i for i in numbers if i not in lost]
        requests = [clients[i].prepare(method, {}, timeout) for i in reached]
        messages = [(clients[i], r) for i, r in zip(reached, requests, strict=True)]
        replies = {**lost}
        for group in send_each(messages, timeout):
            replies |= {reached[i]: reply for i, reply in group}
        return [replies[i] for i in numbers]

    return repeat_unreadable(send, len(clients))


def learn_schemes(clients: Sequence[Client]) -> list[WalletError | None]:
    """Have wallets without an info event show their encryption.

    For payments, which are sent only once. A wallet that does not answer stays with the
    assumption. Returns RequestNotSent for a wallet if none of its relays can be
    reached.
    """
    found = capabilities_of([(client.uri, client.endpoints) for client in clients])
    errors: list[WalletError | None] = [
        each if isinstance(each, RequestNotSent) else None for each in found
    ]
    assumed = [
        i
        for i, each in enumerate(found)
        if isinstance(each, Capabilities) and each.is_assumed
    ]
    replies = call_each([clients[i] for i in assumed], "get_info", _PROBE_TIMEOUT)
    for i, reply in zip(assumed, replies, strict=True):
        if isinstance(reply, RequestNotSent):
            errors[i] = reply
        elif not isinstance(reply, NoWalletReply | InvalidWalletReply):
            learn_scheme(clients[i].uri, clients[i].capabilities.scheme)
    return errors
