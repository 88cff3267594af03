"""Requests of NIP-47 to many tenants' wallets at once."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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


class Room:
    """Connections to tenants' relays that the batches of this process may use at once.

    Batches of wallets at the same relay each count it.
    """

    def __init__(self, size: int) -> None:
        self._free = size
        self._changed = threading.Condition()

    @contextmanager
    def take(self, number: int) -> Iterator["Held"]:
        """Wait for so many connections. Raises TooManyConnections.

        Meanwhile the database connection is released.
        """
        release_connection()
        with self._changed:
            if not self._changed.wait_for(lambda: self._free >= number, _MAX_WAIT):
                raise TooManyConnections("Too many relays are in use at the moment.")
            self._free -= number
        held = Held(self, number)
        try:
            yield held
        finally:
            held.keep(0)

    def give_back(self, number: int) -> None:
        """Let others use so many connections again."""
        with self._changed:
            self._free += number
            self._changed.notify_all()


class Held:
    """The connections that one batch may use."""

    def __init__(self, room: Room, number: int) -> None:
        self._room, self._number = room, number

    def keep(self, number: int) -> None:
        """Keep so many, and give back the others."""
        self._room.give_back(self._number - number)
        self._number = number


#: Fewer than the connections to one host (caravel/nostr/relays/limits.py), since some
#: services give each wallet a URL of its own.
ROOM = Room(128)


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
