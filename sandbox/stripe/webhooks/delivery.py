"""Webhook deliveries: signed, in order, retried until the endpoint responds with 2xx.

If an endpoint cannot be reached, all its deliveries wait, which preserves their order.
If it responds with an error, only that event is retried later, as at Stripe; the
following events are delivered.
"""

import threading
import time

from sandbox.common.http import dump_json
from sandbox.stripe.api.context import DELIVERY, queue_delivery, subscribers
from sandbox.stripe.clock.clock import Clock
from sandbox.stripe.objects.invoices import finalization_delay
from sandbox.stripe.objects.registry import REGISTRY
from sandbox.stripe.store.records import Record, Store
from sandbox.stripe.webhooks.http import (
    TIMEOUT,
    Delivery,
    Post,
    deliver,
    post_over_http,
)

# Real seconds before each retry; the last delay repeats.
DELAYS = (0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0)
# Stripe gives up after three days. A minimum number of attempts as well, since the
# sandbox clock may jump three days at once.
GIVE_UP_AFTER = 3 * 86_400
GIVE_UP_ATTEMPTS = 16


class Deliveries:
    """Queue of deliveries in the store, with the thread that sends them."""

    def __init__(
        self,
        store: Store,
        lock: threading.RLock,
        clock: Clock,
        *,
        post: Post | None = None,
        delays: tuple[float, ...] | None = None,
    ) -> None:
        self.paused = False
        self._store = store
        self._lock = lock
        self._clock = clock
        self._post = post or post_over_http
        self._delays = delays or DELAYS
        self._wake_up = threading.Event()
        self._recorded = threading.Condition(lock)
        self._stopped = False
        self._thread: threading.Thread | None = None
        self._epoch = 0
        self._in_flight = 0
        self.reset()

    def start(self) -> None:
        """Start the delivery thread."""
        self._stopped = False
        self._thread = threading.Thread(
            target=self._run, name="stripe-webhooks", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop the delivery thread; pending deliveries stay in the store."""
        self._stopped = True
        self._wake_up.set()
        if self._thread is not None:
            self._thread.join(TIMEOUT + 1)
            self._thread = None

    def pause(self, paused: bool = True) -> None:
        """Pause or resume deliveries."""
        self.paused = paused
        self.wake()

    def wake(self) -> None:
        """Make the delivery thread check for due deliveries."""
        self._wake_up.set()

    def reset(self) -> None:
        """Forget failures and requests in flight: all pending deliveries are due."""
        self._epoch += 1
        self._retry_at: dict[str, float] = {}
        self._unreachable: dict[str, int] = {}

    def pending(self) -> int:
        """Return the number of deliveries that are not acknowledged."""
        return self._store.count(DELIVERY)

    def next_release(self) -> int | None:
        """Return when the next delivery that a fault delays is due, or None."""
        with self._lock:
            now = self._clock.now()
            held = self._store.scan(DELIVERY, index=("held", "fault"))
            times = [record["not_before"] for record in held]
            return min((at for at in times if at > now), default=None)

    def deliver_due(self) -> int:
        """Attempt every due delivery; return how many were acknowledged."""
        acknowledged = 0
        while delivery := self._next():
            acknowledged += self._deliver(delivery)
        return acknowledged

    def wait_until_idle(self, timeout: float) -> bool:
        """Wait until every due delivery was attempted; return False on a timeout.

        Does not wait for retries. The caller must not hold the lock.
        """
        if self._thread is None:
            self.deliver_due()
            return True
        self.wake()
        with self._recorded:
            return self._recorded.wait_for(self._is_idle, timeout)

    def redeliver(self, event: Record, endpoint: str | None = None) -> int:
        """Queue an event for each enabled endpoint that is registered for its type.

        Faults do not apply, and a delayed delivery is due at once. Returns the number
        of deliveries.
        """
        endpoints = [
            id
            for id in subscribers(self._store, event["type"])
            if endpoint in (None, id)
        ]
        for id in endpoints:
            queued = queue_delivery(self._store, event, id, self._clock.now())
            self._retry_at.pop(queued["id"], None)
        self._store.commit()
        self.wake()
        return len(endpoints)

    def _run(self) -> None:
        while not self._stopped:
            self._wake_up.clear()
            if delivery := self._next():
                self._deliver(delivery)
            elif not self._stopped:
                self._wake_up.wait(self._time_until_due())

    def _time_until_due(self) -> float | None:
        with self._lock:
            if self.paused:
                return None
            waits = [at - time.monotonic() for at in self._retry_at.values()]
            release = self.next_release()
            if release is not None:
                waits.append(release - self._clock.now())
            return max(0.0, min(waits)) if waits else None

    def _next(self) -> Delivery | None:
        with self._lock:
            delivery = None if self._stopped else self._first_due()
            self._store.commit()
            if delivery is None:
                self._recorded.notify_all()
            else:
                self._in_flight += 1
            return delivery

    def _is_idle(self) -> bool:
        return not self._in_flight and self._first_due() is None

    def _first_due(self) -> Delivery | None:
        if self.paused:
            return None
        now = time.monotonic()
        self._retry_at = {key: at for key, at in self._retry_at.items() if at > now}
        # The oldest delivery of all endpoints, so that events are sent in order.
        endpoints = self._store.scan("webhook_endpoint", newest_first=False)
        deliveries = filter(None, map(self._first_of, endpoints))
        return min(deliveries, key=lambda due: due.record["created"], default=None)

    def _first_of(self, endpoint: Record) -> Delivery | None:
        """Return the oldest due delivery to an endpoint, or None."""
        if endpoint["id"] in self._retry_at:
            return None
        now, index = self._clock.now(), ("endpoint", endpoint["id"])
        for record in self._store.scan(DELIVERY, index=index, newest_first=False):
            if record["id"] in self._retry_at or record.get("not_before", 0) > now:
                continue
            event = self._store.get("event", record["event"])
            if event is not None and endpoint["status"] == "enabled":
                return Delivery(record, event, endpoint, self._epoch)
            self._delete(record["id"])
        return None

    def _deliver(self, delivery: Delivery) -> bool:
        payload = dump_json(REGISTRY.render(self._store, delivery.event))
        signed_at = self._clock.receiver_now()
        # Without the lock: the receiver may call the API before it responds.
        status = deliver(self._post, delivery, payload, signed_at=signed_at)
        with self._lock:
            # A reset during the request has replaced all records: ignore the result.
            if delivery.epoch == self._epoch:
                self._record_result(delivery, status)
                self._store.commit()
            self._in_flight -= 1
            self._recorded.notify_all()
        return 200 <= status < 300

    def _record_result(self, delivery: Delivery, status: int) -> None:
        endpoint = delivery.endpoint["id"]
        self._retry_at.pop(endpoint, None)
        finalization_delay.record_reachability(self._store, endpoint, bool(status))
        if status:
            self._unreachable.pop(endpoint, None)
        record = self._store.get(DELIVERY, delivery.record["id"])
        if record is None:
            return
        if 200 <= status < 300:
            self._acknowledge(record)
        else:
            self._retry_later(record, reached=bool(status))

    def _acknowledge(self, record: Record) -> None:
        event = self._store.get("event", record["event"])
        if event:
            waiting = [id for id in event["_waiting"] if id != record["endpoint"]]
            event = {**event, "_waiting": waiting, "pending_webhooks": len(waiting)}
            self._store.put("event", event)
            now = self._clock.now()
            finalization_delay.record_delivery(self._store, record, event, now)
        self._release_overtaken(record)
        self._delete(record["id"])

    def _release_overtaken(self, record: Record) -> None:
        index = ("endpoint", record["endpoint"])
        for older in self._store.scan(DELIVERY, index=index, before=record["id"]):
            if older.get("until_overtaken"):
                released = {"held": None, "not_before": 0, "until_overtaken": False}
                self._store.put(DELIVERY, {**older, **released})

    def _retry_later(self, record: Record, *, reached: bool) -> None:
        attempts = record["attempts"] + 1
        age = self._clock.now() - record["created"]
        if reached and attempts >= GIVE_UP_ATTEMPTS and age >= GIVE_UP_AFTER:
            self._delete(record["id"])
            return
        self._store.put(DELIVERY, {**record, "attempts": attempts})
        if reached:
            self._retry_at[record["id"]] = self._next_attempt_at(attempts)
            return
        endpoint = record["endpoint"]
        failures = self._unreachable.get(endpoint, 0) + 1
        self._unreachable[endpoint] = failures
        self._retry_at[endpoint] = self._next_attempt_at(failures)

    def _next_attempt_at(self, attempts: int) -> float:
        delay = self._delays[min(attempts, len(self._delays)) - 1]
        return time.monotonic() + delay

    def _delete(self, id: str) -> None:
        self._retry_at.pop(id, None)
        if self._store.get(DELIVERY, id):
            self._store.delete(DELIVERY, id)
