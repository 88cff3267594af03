"""Notifications of a wallet (NIP-47): hints that a payment may have arrived."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Full, Queue

import structlog

from caravel.core import cache
from caravel.nostr.events import Event
from caravel.nostr.relays.dial import Endpoint
from caravel.nostr.relays.pool import pool_for
from lightning.clients.clock import CLOCK_TOLERANCE
from lightning.clients.nwc_content import decrypt_content
from lightning.clients.nwc_replies import is_hash
from lightning.clients.nwc_uri import NwcUri
from lightning.exceptions import InvalidWalletReply

logger = structlog.get_logger(__name__)

_NIP04, _NIP44 = KINDS = (23196, 23197)
#: Maximum per call, maximum in the queue, seconds between two calls.
_MAX_NOTIFICATIONS, _MAX_QUEUED, _PAUSE = 100, 1_000, 0.5
#: Seconds for which other processes leave a notification to the first that got it.
_CLAIM_SECONDS = 600


class Listener:
    """Passes on the payment hashes in a wallet's `payment_received` notifications.

    `callback` runs in the listener's own thread and gets each hash once, although most
    wallets notify in both encryptions and relays repeat events after a reconnect.
    Notifications that arrive together are passed together. Of all processes that
    listen, usually one passes each on.
    """

    def __init__(self, uri: NwcUri, callback: Callable[[list[str]], None]) -> None:
        self._uri = uri
        self._callback = callback
        self._events: Queue[Event] = Queue(_MAX_QUEUED)
        self._notifies_in_nip44 = False

    def start(self, endpoints: Sequence[Endpoint]) -> None:
        """Listen for the life of the process."""
        threading.Thread(target=self._pass_on, name="hints", daemon=True).start()
        since = int(time.time() - CLOCK_TOLERANCE.total_seconds())
        filters = [{"kinds": [*KINDS], "authors": [self._uri.pubkey], "since": since}]
        pool_for(endpoints).listen(
            endpoints, filters, self._enqueue, secret_key=self._uri.secret
        )

    def _enqueue(self, event: Event) -> None:
        """Queue a notification, or drop it if the queue is full.

        A relay may send anything, in any amount; polling finds what is dropped.
        """
        if event.pubkey == self._uri.pubkey and event.kind in KINDS:
            with suppress(Full):
                self._events.put_nowait(event)

    def _pass_on(self) -> None:
        reported: deque[str] = deque(maxlen=_MAX_QUEUED)
        while True:
            hashes = [self._received_hash(event) for event in self._drain()]
            new = [
                each for each in dict.fromkeys(hashes) if each and each not in reported
            ]
            if not new:
                continue
            try:
                self._callback(new)
            except Exception:  # of any kind, since this thread must go on
                logger.exception("hints_lost", payment_hashes=new)
            reported.extend(new)
            time.sleep(_PAUSE)  # collect those that arrive meanwhile

    def _drain(self) -> list[Event]:
        """Return the queued events, waiting for the first."""
        drained = [self._events.get()]
        while len(drained) < _MAX_NOTIFICATIONS and not self._events.empty():
            drained.append(self._events.get())
        return drained

    def _received_hash(self, event: Event) -> str | None:
        """Return the payment hash in a `payment_received` notification, else None."""
        # NIP-47: a wallet that understands NIP-44 sends each notification in both.
        if event.kind == _NIP04 and self._notifies_in_nip44:
            return None
        if not self._claim(event):
            return None
        try:
            content = decrypt_content(self._uri, event)
        except InvalidWalletReply:
            return None  # for another connection of the wallet
        self._notifies_in_nip44 |= event.kind == _NIP44
        notification = content.get("notification")
        if not isinstance(notification, dict):
            return None
        payment_hash = notification.get("payment_hash")
        is_received = content.get("notification_type") == "payment_received"
        return str(payment_hash) if is_received and is_hash(payment_hash) else None

    def _claim(self, event: Event) -> bool:
        """Return whether no other process has the event; true if Redis is down."""
        key = f"notification:{self._uri.client_pubkey}:{event.id}"
        return cache.add(key, 1, seconds=_CLAIM_SECONDS)
