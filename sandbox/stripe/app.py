"""The sandbox's Stripe account, independent of any socket."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sandbox.common.faults import Faults
from sandbox.common.http import Request, Response, Steps, json_response, run
from sandbox.stripe import API_VERSION, retention, settings
from sandbox.stripe.api import auth, form_encoding
from sandbox.stripe.api.context import ACCOUNT, DEFAULT_PUBLIC_URL, DELIVERY, Context
from sandbox.stripe.api.errors import StripeError, error_body, unrecognized_url
from sandbox.stripe.api.expand import Expansion
from sandbox.stripe.api.faults import ApiFault
from sandbox.stripe.api.idempotency import IdempotentResponses, get_key
from sandbox.stripe.api.rate_limit import RateLimit
from sandbox.stripe.api.request import ApiRequest
from sandbox.stripe.api.request_log import RequestLog
from sandbox.stripe.clock.clock import Clock
from sandbox.stripe.clock.scheduler import Scheduler
from sandbox.stripe.objects.events import webhook_endpoints
from sandbox.stripe.objects.registry import REGISTRY
from sandbox.stripe.store.ids import Ids
from sandbox.stripe.store.records import Record, Store
from sandbox.stripe.store.snapshots import Snapshot, Snapshots
from sandbox.stripe.store.sqlite import SqliteJournal
from sandbox.stripe.webhooks.delivery import Deliveries
from sandbox.stripe.webhooks.faults import WebhookFault, apply_faults
from sandbox.stripe.webhooks.http import Post

logger = logging.getLogger(__name__)
Result = TypeVar("Result")
CLOCK = "_clock"
PRIVATE_INDEXES = {DELIVERY: ("draft", "endpoint", "event", "held")}
WEBHOOK_TIMEOUT = 10.0


class StripeApp:
    """One Stripe account. Thread-safe: a single lock guards every transaction."""

    def __init__(
        self,
        *,
        state: str | Path | None = None,
        api_key: str | None = None,
        account: str = ACCOUNT,
        seed: int | None = None,
        post: Post | None = None,
        retry_delays: tuple[float, ...] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        clock_file: Path | None = None,
    ) -> None:
        self.api_key = api_key
        self.account = account
        self.livemode = auth.is_live(api_key)
        self.public_url = DEFAULT_PUBLIC_URL
        self.lock = threading.RLock()
        self.scheduler = Scheduler(REGISTRY)
        journal = SqliteJournal(Path(state)) if state else None
        indexes = {**REGISTRY.indexes, **PRIVATE_INDEXES}
        # The scheduler also learns of the records that are loaded from the state file.
        self.store = Store(indexes, journal, on_put=self.scheduler.watch)
        # Restarting with the same seed must not repeat the ids of stored objects.
        self.ids = Ids(seed, used=self.store.written)
        self.snapshots = Snapshots(journal)
        saved = self.store.get(CLOCK, CLOCK)
        self.clock = Clock(saved["offset"] if saved else 0, clock_file)
        self.faults: Faults[ApiFault] = Faults(seed)
        self.webhook_faults: Faults[WebhookFault] = Faults(seed, prefix="webhook_fault")
        self.log = RequestLog()
        self.rate_limit = RateLimit(monotonic)
        self.idempotent_responses = IdempotentResponses(self.store)
        self.deliveries = Deliveries(
            self.store, self.lock, self.clock, post=post, delays=retry_delays
        )
        self._fixed_endpoints: dict[str, dict[str, Any]] = {}
        self._closing = threading.Event()

    def handle(self, http: Request) -> Response:
        """Return the response to one API request. Never raises."""
        return run(self.respond(http))

    def respond(self, http: Request) -> Steps:
        """Like `handle`, but yield delays instead of waiting."""
        request = ApiRequest(http, self.ids.new("req", 14))
        try:
            response = yield from self._respond(request)
        except StripeError as error:
            response = self._error_response(request, error)
        except Exception:
            logger.exception("%s %s failed", http.method, http.path)
            failure = StripeError(500, "The sandbox failed.", type="api_error")
            response = self._error_response(request, failure)
        self.log.add(request.log_entry(response, self.clock.now()))
        if latency := settings.read(self.store).latency:
            yield partial(self._closing.wait, latency)
        return response

    def transact(self, work: Callable[[Context], Result]) -> Result:
        """Run due timers, then `work` in one transaction; return its result."""
        with self.lock:
            now = self.clock.now()
            self.run_due(now)
            return self._run(work, now)

    def advance(
        self,
        seconds: int,
        *,
        deliver: bool = False,
        then: Callable[[], object] | None = None,
        timeout: float = WEBHOOK_TIMEOUT,
    ) -> int:
        """Move the clock forward, run everything due in order, return the new time.

        With `deliver`, the clock stops at each due time until every due webhook has
        been attempted and then calls `then`, so that the receiver can react at the
        right time. The caller must not hold the lock. If the webhooks of one stop take
        longer than `timeout` real seconds, the clock moves on without further stops.
        Raises ValueError when `seconds` is negative.
        """
        if seconds < 0:
            raise ValueError("the clock only moves forward")
        target = self.clock.now() + seconds
        # One timeout ends the waiting for good: an endpoint that hangs would otherwise
        # delay every stop.
        while deliver:
            deliver = self.deliveries.wait_until_idle(timeout)
            if then is not None:
                then()
                deliver = deliver and self.deliveries.wait_until_idle(timeout)
            stop = self._next_stop(target)
            if stop is None:
                break
            self._move_to(stop)
        return self._move_to(target)

    def run_due(self, until: int) -> None:
        """Run all timers due up to `until`, each at its own time."""
        with self.lock:
            while (at := self.scheduler.next_at()) is not None and at <= until:
                kind, id, timer = self.scheduler.pop()
                record = self.store.get(kind, id)
                if record is not None and timer.due_at(record) == at:
                    self._run(timer.run, at, record)

    def _next_stop(self, target: int) -> int | None:
        """Return the next due time up to `target`, or None once it is reached."""
        with self.lock:
            times = (self.scheduler.next_at(), self.deliveries.next_release())
            due = [at for at in times if at and at <= target]
            now = self.clock.now()
            if not due and now < target:
                return target
            return min(due, default=None)

    def _move_to(self, at: int) -> int:
        with self.lock:
            self.run_due(at)
            now = self.clock.advance(max(0, at - self.clock.now()))
            self._save_clock()
            self.deliveries.wake()
            return now

    def _save_clock(self) -> None:
        clock = {"id": CLOCK, "created": 0, "offset": self.clock.offset}
        self.store.put(CLOCK, clock)
        self.store.commit()

    def register_endpoint(
        self, url: str, *, secret: str | None = None, events: list[str] | None = None
    ) -> Record:
        """Create a webhook endpoint that survives a reset, and return it.

        An existing endpoint with the same URL is updated instead.
        """
        options: dict[str, Any] = {"secret": secret, "events": events or ["*"]}
        endpoint = self.transact(
            lambda context: webhook_endpoints.register(context, url=url, **options)
        )
        self._fixed_endpoints[url] = {**options, "secret": endpoint["_secret"]}
        return endpoint

    def change_settings(self, changes: Mapping[str, Any]) -> settings.AccountSettings:
        """Change some account settings and return all. Raises BadField."""
        return self.transact(lambda context: settings.change(self.store, changes))

    def redeliver(self, event: str, endpoint: str | None = None) -> int:
        """Resend an event, as in the dashboard; return the number of deliveries.

        It goes to one endpoint, or to all that are registered for its type. Raises
        KeyError for an unknown event.
        """
        with self.lock:
            record = self.store.get("event", event)
            if record is None:
                raise KeyError(event)
            return self.deliveries.redeliver(record, endpoint)

    def snapshot(self, name: str = "default") -> dict[str, Any]:
        """Save the whole account under a name; return a summary of the snapshot."""
        with self.lock:
            rows, next_seq = self.store.dump()
            paused = self.deliveries.paused
            now, ids = self.clock.now(), self.ids.state()
            return self.snapshots.save(name, Snapshot(now, paused, ids, next_seq, rows))

    def restore(self, name: str = "default") -> int:
        """Restore a snapshot, including its time; return that time.

        Clears faults and keeps the request log. Raises NoSuchSnapshot.
        """
        with self.lock:
            snapshot = self.snapshots.get(name)
            self._clear_temporary_state()
            self.store.restore(snapshot.rows, snapshot.next_seq)
            self.clock.restore(snapshot.now)
            self._save_clock()
            self.ids.restore(snapshot.ids)
            self.deliveries.pause(snapshot.paused)
            return self.clock.now()

    def _clear_temporary_state(self) -> None:
        """Drop everything in memory that refers to the replaced records."""
        self.clear_faults()
        self.scheduler.clear()
        self.deliveries.reset()

    def clear_faults(self) -> None:
        """Remove all faults and release the requests that they delay."""
        self.faults.clear()
        self.webhook_faults.clear()

    def reset(self) -> None:
        """Delete everything except snapshots and endpoints registered at the start."""
        with self.lock:
            self._clear_temporary_state()
            self.store.clear()
            self.clock.reset()
            self.log.clear()
            for url, options in list(self._fixed_endpoints.items()):
                self.register_endpoint(url, **options)

    def release_delayed(self) -> None:
        """Answer at once to the requests that a fault or the latency delays."""
        self._closing.set()
        self.faults.clear()

    def close(self) -> None:
        """Stop deliveries, release delayed requests and close the state file."""
        self.release_delayed()
        self.deliveries.stop()
        with self.lock:
            self.store.close()

    def _respond(self, request: ApiRequest) -> Steps:
        auth.check_key(request.http, self.api_key)
        auth.check_version(request.http)
        self.rate_limit.take(settings.read(self.store).rate_limit)
        # As at Stripe, errors up to here are not stored under the idempotency key.
        self._parse(request)
        request.fault = self.faults.take(request.is_affected)
        with self.lock:
            replay = self.idempotent_responses.begin(request, self.clock.now())
        try:
            response = yield from request.disrupt("before", self.clock.now())
            if response is None:
                response = replay or self._execute(request)
        finally:
            if replay is None:
                self.idempotent_responses.end(request)
        response = self._add_headers(request, response)
        return (yield from request.disrupt("after", self.clock.now())) or response

    def _parse(self, request: ApiRequest) -> None:
        http = request.http
        endpoint = REGISTRY.find(http.method, http.path)
        if endpoint is None:
            raise unrecognized_url(http.method, http.path)
        request.route, request.ids = endpoint
        request.raw_params = form_encoding.read(http)
        request.params = request.route.shape.read(request.raw_params)
        request.idempotency_key = get_key(http)

    def _execute(self, request: ApiRequest) -> Response:
        """Run the endpoint and store its idempotent response in one transaction.

        An error rolls the transaction back; its response is stored in a second one.
        """

        def work(context: Context) -> Response:
            context.request_id = request.id
            context.idempotency_key = request.idempotency_key
            try:
                response = json_response(200, self._call_endpoint(context, request))
            except StripeError as error:
                if not error.committed:
                    raise
                response = self._error_response(request, error)
            response = request.replace_response(response, context.now)
            return self.idempotent_responses.save(request, response, context.now)

        # One lock for both transactions: no other request may see the state between.
        with self.lock:
            try:
                return self.transact(work)
            except StripeError as error:
                response = self._error_response(request, error)
                if not error.stored:
                    return response
                return self.transact(
                    lambda context: self.idempotent_responses.save(
                        request, response, context.now
                    )
                )

    def _call_endpoint(self, context: Context, request: ApiRequest) -> dict[str, Any]:
        retention.purge(self.store, context.now)
        record = request.route.handler(context, request.params, *request.ids)
        paths = request.params.get("expand", [])
        return Expansion(self.store, REGISTRY).apply(context.serialize(record), paths)

    def _run(self, work: Callable[..., Result], now: int, *args: Record) -> Result:
        context = Context(
            self.store,
            REGISTRY.render,
            self.ids,
            now,
            self.public_url,
            self.account,
            self.livemode,
        )
        try:
            result = work(context, *args)
        except BaseException:
            self.store.rollback()
            raise
        self.store.commit()
        # After the commit: a failed request must not use up a webhook fault.
        if context.queued:
            apply_faults(self.webhook_faults, self.store, context.queued, now)
            self.store.commit()
            self.deliveries.wake()
        return result

    def _error_response(self, request: ApiRequest, error: StripeError) -> Response:
        body = error_body(error.fields, request_id=request.id, now=self.clock.now())
        response = json_response(error.status, body, error.headers)
        return self._add_headers(request, response)

    def _add_headers(self, request: ApiRequest, response: Response) -> Response:
        headers = {
            **response.headers,
            "Request-Id": request.id,
            "Stripe-Version": API_VERSION,
        }
        if request.idempotency_key:
            headers["Idempotency-Key"] = request.idempotency_key
        return replace(response, headers=headers)
