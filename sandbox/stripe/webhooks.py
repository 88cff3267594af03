"""Webhook deliveries: signed, in order, retried until the endpoint answers 2xx.

An endpoint that cannot be reached is left alone as a whole, so order is kept; one
that answers with an error is asked again for that event later, as Stripe does, while
the events after it go on.
"""

import threading
import time
from dataclasses import dataclass

from sandbox.stripe.clock import Clock
from sandbox.stripe.context import DELIVERY, queue_delivery, wants
from sandbox.stripe.objects import draft_delay
from sandbox.stripe.objects.registry import REGISTRY
from sandbox.stripe.protocol.http import dump_json
from sandbox.stripe.store import Record, Store
from sandbox.stripe.webhook_post import (
    TIMEOUT,
    Post,
    Sending,
    deliver,
    post_over_http,
)

DELAYS = (0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0)
# Stripe gives up after three days; a jump of the clock alone must not do that.
GIVE_UP_AFTER = 3 * 86_400
GIVE_UP_ATTEMPTS = 16


@dataclass(slots=True)
class Settings:
    """How deliveries behave."""

    paused: bool = False


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
        self._recorded = threading.Condition(lock)
        self._stopped = False
        self._thread: threading.Thread | None = None
        self._epoch = 0
        self._under_way = 0
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
        """Forget earlier failures and what is under way: all that is pending is due."""
        self._epoch += 1
        self._retry_at: dict[str, float] = {}
        self._unreachable: dict[str, int] = {}

    def pending(self) -> int:
        """Return how many deliveries are not acknowledged."""
        return self._store.count(DELIVERY)

    def next_release(self) -> int | None:
        """Return when the first delivery that a fault holds back is due, if one is."""
        with self._lock:
            now = self._clock.now()
            held = self._store.scan(DELIVERY, index=("held", "fault"))
            moments = [delivery["not_before"] for delivery in held]
            return min((at for at in moments if at > now), default=None)

    def deliver_due(self) -> int:
        """Deliver all that is due now; return how many were acknowledged."""
        acknowledged = 0
        while sending := self._next():
            acknowledged += self._deliver(sending)
        return acknowledged

    def settle(self, patience: float) -> bool:
        """Wait until all that is due has been tried; return False if it takes longer.

        Call it without the lock. What failed is tried again later, not waited for.
        """
        if self._thread is None:
            self.deliver_due()
            return True
        self.wake()
        with self._recorded:
            return self._recorded.wait_for(self._settled, patience)

    def redeliver(self, event: Record, endpoint: str | None = None) -> int:
        """Queue an event for each enabled endpoint that wants it; return how many do.

        Faults do not touch it, and one that is held back goes now.
        """
        endpoints = [
            one["id"]
            for one in self._store.scan("webhook_endpoint", newest_first=False)
            if one["status"] == "enabled"
            and endpoint in (None, one["id"])
            and wants(one, event["type"])
        ]
        for id in endpoints:
            queued = queue_delivery(self._store, event, id, self._clock.now())
            self._retry_at.pop(queued["id"], None)
        self._store.commit()
        self.wake()
        return len(endpoints)

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
            if self.settings.paused:
                return None
            waits = [at - time.monotonic() for at in self._retry_at.values()]
            release = self.next_release()
            if release is not None:
                waits.append(release - self._clock.now())
            return max(0.0, min(waits)) if waits else None

    def _next(self) -> Sending | None:
        with self._lock:
            sending = None if self._stopped else self._first_due()
            self._store.commit()
            if sending is None:
                self._recorded.notify_all()
            else:
                self._under_way += 1
            return sending

    def _settled(self) -> bool:
        return not self._under_way and self._first_due() is None

    def _first_due(self) -> Sending | None:
        if self.settings.paused:
            return None
        moment = time.monotonic()
        self._retry_at = {key: at for key, at in self._retry_at.items() if at > moment}
        first: Sending | None = None
        for endpoint in list(self._store.scan("webhook_endpoint", newest_first=False)):
            sending = self._first_of(endpoint)
            if sending and (first is None or sending.created < first.created):
                first = sending
        return first

    def _first_of(self, endpoint: Record) -> Sending | None:
        """Return the oldest delivery to an endpoint that is due, if there is one."""
        if endpoint["id"] in self._retry_at:
            return None
        now, index = self._clock.now(), ("endpoint", endpoint["id"])
        for delivery in self._store.scan(DELIVERY, index=index, newest_first=False):
            if delivery["id"] in self._retry_at or delivery.get("not_before", 0) > now:
                continue
            sending = self._prepare(delivery, endpoint)
            if sending is not None:
                return sending
        return None

    def _prepare(self, delivery: Record, endpoint: Record) -> Sending | None:
        event = self._store.get("event", delivery["event"])
        if event is None or endpoint["status"] != "enabled":
            self._drop(delivery["id"])
            return None
        return Sending(
            delivery["id"],
            event,
            endpoint["id"],
            endpoint["url"],
            endpoint["_secret"],
            delivery["created"],
            self._epoch,
        )

    def _deliver(self, sending: Sending) -> bool:
        payload = dump_json(REGISTRY.render(self._store, sending.event))
        signed_at = self._clock.receivers_now()
        status = deliver(self._post, sending, payload, signed_at=signed_at)
        with self._lock:
            # What was under way when everything was replaced says nothing any more.
            if sending.epoch == self._epoch:
                self._record(sending, status)
                self._store.commit()
            self._under_way -= 1
            self._recorded.notify_all()
        return 200 <= status < 300

    def _record(self, sending: Sending, status: int) -> None:
        self._retry_at.pop(sending.endpoint, None)
        draft_delay.record_reachability(self._store, sending.endpoint, bool(status))
        if status:
            self._unreachable.pop(sending.endpoint, None)
        delivery = self._store.get(DELIVERY, sending.id)
        if delivery is None:
            return
        if 200 <= status < 300:
            self._acknowledge(delivery)
        else:
            self._retry_later(delivery, reached=bool(status))

    def _acknowledge(self, delivery: Record) -> None:
        event = self._store.get("event", delivery["event"])
        if event:
            waiting = event.get("_waiting", [])
            left = [id for id in waiting if id != delivery["endpoint"]]
            acknowledged = {**event, "_waiting": left, "pending_webhooks": len(left)}
            self._store.put("event", acknowledged)
            draft_delay.record_delivery(
                self._store, delivery, acknowledged, self._clock.now()
            )
        self._release_overtaken(delivery)
        self._drop(delivery["id"])

    def _release_overtaken(self, delivery: Record) -> None:
        index = ("endpoint", delivery["endpoint"])
        for older in self._store.scan(DELIVERY, index=index, before=delivery["id"]):
            if older.get("until_overtaken"):
                released = {"held": None, "not_before": 0, "until_overtaken": False}
                self._store.put(DELIVERY, {**older, **released})

    def _retry_later(self, delivery: Record, *, reached: bool) -> None:
        attempts = delivery["attempts"] + 1
        age = self._clock.now() - delivery["created"]
        if reached and attempts >= GIVE_UP_ATTEMPTS and age >= GIVE_UP_AFTER:
            self._drop(delivery["id"])
            return
        self._store.put(DELIVERY, {**delivery, "attempts": attempts})
        if reached:
            self._retry_at[delivery["id"]] = self._time_of_retry(attempts)
            return
        endpoint = delivery["endpoint"]
        failures = self._unreachable.get(endpoint, 0) + 1
        self._unreachable[endpoint] = failures
        self._retry_at[endpoint] = self._time_of_retry(failures)

    def _time_of_retry(self, attempts: int) -> float:
        delay = self._delays[min(attempts, len(self._delays)) - 1]
        return time.monotonic() + delay

    def _drop(self, id: str) -> None:
        self._retry_at.pop(id, None)
        if self._store.get(DELIVERY, id):
            self._store.delete(DELIVERY, id)
