"""Webhook deliveries: signed, in order, retried until the endpoint answers 2xx.

An endpoint that cannot be reached is left alone as a whole, so order is kept; one
that answers with an error is asked again for that event later, as Stripe does, while
the events after it go on.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import NamedTuple
from urllib.parse import urlsplit

from stripe import WebhookSignature

from sandbox.stripe.clock import Clock
from sandbox.stripe.context import DELIVERY
from sandbox.stripe.objects.registry import REGISTRY
from sandbox.stripe.protocol.http import dump_json
from sandbox.stripe.store import Store

Post = Callable[[str, bytes, Mapping[str, str]], int]
DELAYS = (0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0)
TIMEOUT = 20
# Stripe gives up after three days; a jump of the clock alone must not do that.
GIVE_UP_AFTER = 3 * 86_400
GIVE_UP_ATTEMPTS = 16


class Sending(NamedTuple):
    """One delivery, ready for the wire."""

    id: str
    endpoint: str
    url: str
    payload: str
    secret: str


@dataclass(slots=True)
class Settings:
    """How deliveries behave."""

    paused: bool = False


def post_over_http(url: str, body: bytes, headers: Mapping[str, str]) -> int:
    """POST and return the status. Raises OSError or HTTPException without one."""
    parts = urlsplit(url)
    factory = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = factory(parts.hostname or "", parts.port, timeout=TIMEOUT)
    try:
        path = parts.path or "/"
        target = f"{path}?{parts.query}" if parts.query else path
        connection.request("POST", target, body, dict(headers))
        return connection.getresponse().status
    finally:
        connection.close()


class Deliveries:
    """The queue of deliveries in the store, and the thread that works it off."""

    def __init__(
        self,
        store: Store,
        lock: threading.RLock,
        clock: Clock,
        *,
        post: Post | None = None,
        delays: tuple[float, ...] | None = None,
    ) -> None:
        self.settings = Settings()
        self._store = store
        self._lock = lock
        self._clock = clock
        self._post = post or post_over_http
        self._delays = delays or DELAYS
        self._wake = threading.Event()
        self._stopped = False
        self._thread: threading.Thread | None = None
        self.forget()

    def start(self) -> None:
        """Deliver from a thread of its own."""
        self._stopped = False
        self._thread = threading.Thread(
            target=self._run, name="stripe-webhooks", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what is undelivered stays in the store."""
        self._stopped = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(TIMEOUT + 1)
            self._thread = None

    def wake(self) -> None:
        """Say that there may be something to deliver."""
        self._wake.set()

    def forget(self) -> None:
        """Forget earlier failures: everything pending is due now."""
        self._retry_at: dict[str, float] = {}
        self._unreachable: dict[str, int] = {}

    def pending(self) -> int:
        """Return how many deliveries are not acknowledged."""
        return self._store.count(DELIVERY)

    def deliver_due(self) -> int:
        """Deliver all that is due now; return how many were acknowledged."""
        acknowledged = 0
        while sending := self._next():
            acknowledged += self._deliver(sending)
        return acknowledged

    def _run(self) -> None:
        while not self._stopped:
            self._wake.clear()
            sending = self._next()
            if sending is None:
                if not self._stopped:
                    self._wake.wait(self._patience())
            else:
                self._deliver(sending)

    def _patience(self) -> float | None:
        with self._lock:
            if self.settings.paused or not self._retry_at:
                return None
            return max(0.0, min(self._retry_at.values()) - time.monotonic())

    def _next(self) -> Sending | None:
        now = time.monotonic()
        with self._lock:
            if self.settings.paused or self._stopped:
                return None
            self._retry_at = {key: at for key, at in self._retry_at.items() if at > now}
            sending = self._first_due()
            self._store.commit()
            return sending

    def _first_due(self) -> Sending | None:
        for delivery in self._store.scan(DELIVERY, newest_first=False):
            if self._retry_at.keys() & {delivery["id"], delivery["endpoint"]}:
                continue
            sending = self._prepare(delivery["id"])
            if sending is not None:
                return sending
        return None

    def _prepare(self, id: str) -> Sending | None:
        delivery = self._store.get(DELIVERY, id) or {}
        event = self._store.get("event", delivery["event"])
        endpoint = self._store.get("webhook_endpoint", delivery["endpoint"])
        if event is None or endpoint is None or endpoint["status"] != "enabled":
            self._drop(id)
            return None
        payload = dump_json(REGISTRY.render(self._store, event))
        return Sending(
            id, endpoint["id"], endpoint["url"], payload, endpoint["_secret"]
        )

    def _deliver(self, sending: Sending) -> bool:
        # Real time, not the sandbox's: receivers compare it with their own clock.
        signature = WebhookSignature.generate_signature_header(
            sending.payload, sending.secret, int(time.time())
        )
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "Stripe-Signature": signature,
            "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
        }
        try:
            status = self._post(sending.url, sending.payload.encode(), headers)
        except (OSError, HTTPException):
            status = 0
        with self._lock:
            self._record(sending, status)
            self._store.commit()
        return 200 <= status < 300

    def _record(self, sending: Sending, status: int) -> None:
        self._retry_at.pop(sending.endpoint, None)
        if status:
            self._unreachable.pop(sending.endpoint, None)
        if 200 <= status < 300:
            self._acknowledge(sending.id)
        elif status:
            self._retry_later(sending.id)
        else:
            failures = self._unreachable.get(sending.endpoint, 0) + 1
            self._unreachable[sending.endpoint] = failures
            self._retry_at[sending.endpoint] = self._time_of_retry(failures)

    def _acknowledge(self, id: str) -> None:
        delivery = self._store.get(DELIVERY, id)
        event = delivery and self._store.get("event", delivery["event"])
        if event:
            left = max(0, event["pending_webhooks"] - 1)
            self._store.put("event", {**event, "pending_webhooks": left})
        self._drop(id)

    def _retry_later(self, id: str) -> None:
        delivery = self._store.get(DELIVERY, id)
        if delivery is None:
            return
        attempts = delivery["attempts"] + 1
        age = self._clock.now() - delivery["created"]
        if attempts >= GIVE_UP_ATTEMPTS and age >= GIVE_UP_AFTER:
            self._drop(id)
            return
        self._store.put(DELIVERY, {**delivery, "attempts": attempts})
        self._retry_at[id] = self._time_of_retry(attempts)

    def _time_of_retry(self, attempts: int) -> float:
        delay = self._delays[min(attempts, len(self._delays)) - 1]
        return time.monotonic() + delay

    def _drop(self, id: str) -> None:
        self._retry_at.pop(id, None)
        if self._store.get(DELIVERY, id):
            self._store.delete(DELIVERY, id)
