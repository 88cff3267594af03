"""The sandbox without its sockets: a request in, a response out."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from sandbox.stripe import API_VERSION, retention, settings
from sandbox.stripe.call import Call
from sandbox.stripe.clock import Clock
from sandbox.stripe.context import DELIVERY, NOWHERE, Context
from sandbox.stripe.faults import Faults
from sandbox.stripe.ids import Ids
from sandbox.stripe.journal import SqliteJournal
from sandbox.stripe.objects import webhook_endpoints
from sandbox.stripe.objects.registry import REGISTRY
from sandbox.stripe.protocol import auth, forms, versions
from sandbox.stripe.protocol.errors import StripeError, unrecognized_url
from sandbox.stripe.protocol.expand import Expansion
from sandbox.stripe.protocol.http import Request, Response, json_response
from sandbox.stripe.protocol.idempotency import Answers, key_of
from sandbox.stripe.rate_limit import RateLimit
from sandbox.stripe.request_log import RequestLog
from sandbox.stripe.scheduler import Scheduler
from sandbox.stripe.snapshots import Snapshot, Snapshots
from sandbox.stripe.store import Record, Store
from sandbox.stripe.webhook_faults import WebhookFaults
from sandbox.stripe.webhook_post import Post
from sandbox.stripe.webhooks import Deliveries

logger = logging.getLogger(__name__)
Result = TypeVar("Result")
CLOCK = "_clock"
PRIVATE_INDEXES = {DELIVERY: ("draft", "endpoint", "event", "held")}
PATIENCE = 10.0


class StripeApp:
    """A whole Stripe account; thread-safe, one lock around every unit of work."""

    def __init__(
        self,
        *,
        state: str | Path | None = None,
        api_key: str | None = None,
        seed: int | None = None,
        post: Post | None = None,
        retry_delays: tuple[float, ...] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        clock_file: Path | None = None,
    ) -> None:
        self.api_key = api_key
        self.public_url = NOWHERE
        self.lock = threading.RLock()
        self.scheduler = Scheduler(REGISTRY)
        journal = SqliteJournal(Path(state)) if state else None
        # Loading the state file also tells the scheduler what is due on it.
        self.store = Store(
            {**REGISTRY.indexes, **PRIVATE_INDEXES},
            journal,
            on_put=self.scheduler.watch,
        )
        # A seed that began anew would make the ids of what is there already.
        self.ids = Ids(seed, used=self.store.written)
        self.snapshots = Snapshots(journal)
        saved = self.store.get(CLOCK, CLOCK)
        self.clock = Clock(saved["offset"] if saved else 0, clock_file)
        self.faults = Faults(seed)
        self.webhook_faults = WebhookFaults(seed)
        self.log = RequestLog()
        self.rate_limit = RateLimit(monotonic)
        self.answers = Answers(self.store)
        self.deliveries = Deliveries(
            self.store, self.lock, self.clock, post=post, delays=retry_delays
        )
        self._fixed_endpoints: list[dict[str, Any]] = []
        self._closing = threading.Event()

    def handle(self, request: Request) -> Response:
        """Answer one request of the API; never raises."""
        call = Call(request, self.ids.new("req", 14))
        try:
            response = self._answer(call)
        except StripeError as error:
            response = self._error(call, error)
        except Exception:
            logger.exception("%s %s failed", request.method, request.path)
            response = self._error(
                call, StripeError(500, "The sandbox failed.", type="api_error")
            )
        self.log.add(call.entry(response, self.clock.now()))
        if latency := settings.read(self.store).latency:
            self._closing.wait(latency)
        return response

    def refuse(self, request: Request, error: StripeError) -> Response:
        """Answer a request that could not be read off the wire."""
        call = Call(request, self.ids.new("req", 14))
        response = self._error(call, error)
        self.log.add(call.entry(response, self.clock.now()))
        return response

    def transact(self, work: Callable[[Context], Result]) -> Result:
        """Run what is due, then the work; all of it or nothing is stored."""
        with self.lock:
            now = self.clock.now()
            self.run_due(now)
            return self._unit(work, self._context(now))

    def advance(
        self,
        seconds: int,
        *,
        deliver: bool = False,
        then: Callable[[], object] | None = None,
        patience: float = PATIENCE,
    ) -> int:
        """Move the clock; everything due on the way happens, in order.

        With `deliver` the clock stops where something is due until all webhooks have
        been tried, then calls `then`, in which a receiver does what follows for it: so
        it reacts at the right time. Call it without the lock. Once webhooks take longer
        than `patience` (real seconds), they are no longer waited for. Raises ValueError
        for a step back.
        """
        if seconds < 0:
            raise ValueError("the clock only moves forward")
        target = self.clock.now() + seconds
        while deliver:
            deliver = self.deliveries.settle(patience)
            if then is not None:
                then()
                deliver = deliver and self.deliveries.settle(patience)
            moment = self._next_moment(target)
            if moment is None:
                break
            self._move_to(moment)
        return self._move_to(target)

    def run_due(self, until: int) -> None:
        """Run everything due up to a moment, each thing at its own time."""
        with self.lock:
            while (at := self.scheduler.next_at()) is not None and at <= until:
                kind, id, timer = self.scheduler.pop()
                record = self.store.get(kind, id)
                if record is None or timer.due_at(record) != at:
                    continue
                self._unit(_running(timer.run, record), self._context(at))

    def _next_moment(self, target: int) -> int | None:
        """Return when something is due next, up to and with the target."""
        with self.lock:
            moments = (self.scheduler.next_at(), self.deliveries.next_release())
            due = [moment for moment in moments if moment and moment <= target]
            now = self.clock.now()
            if not due and now < target:
                return target
            return min(due, default=None)

    def _move_to(self, moment: int) -> int:
        with self.lock:
            self.run_due(moment)
            now = self.clock.advance(max(0, moment - self.clock.now()))
            self._keep_clock()
            self.deliveries.wake()
            return now

    def _keep_clock(self) -> None:
        clock = {"id": CLOCK, "created": 0, "offset": self.clock.offset}
        self.store.put(CLOCK, clock)
        self.store.commit()

    def register_endpoint(
        self, url: str, *, secret: str | None = None, events: list[str] | None = None
    ) -> Record:
        """Register a webhook endpoint that a reset keeps; return it.

        One that exists with this URL is changed instead.
        """
        wanted = events or ["*"]
        endpoint = self.transact(
            lambda context: webhook_endpoints.register(
                context, url=url, events=wanted, secret=secret
            )
        )
        options = {"url": url, "secret": endpoint["_secret"], "events": events}
        self._fixed_endpoints = [
            *(fixed for fixed in self._fixed_endpoints if fixed["url"] != url),
            options,
        ]
        return endpoint

    def change_settings(self, changes: Mapping[str, Any]) -> settings.Settings:
        """Change what the account is set to; return all. Raises BadSetting."""
        return self.transact(lambda context: settings.change(self.store, changes))

    def redeliver(self, event: str, endpoint: str | None = None) -> int:
        """Deliver an event again, as the dashboard's "Resend"; return how often.

        To every endpoint that wants it, or to one. Raises KeyError for no such event.
        """
        with self.lock:
            record = self.store.get("event", event)
            if record is None:
                raise KeyError(event)
            return self.deliveries.redeliver(record, endpoint)

    def snapshot(self, name: str) -> dict[str, Any]:
        """Keep all that the account now is under a name; return what was kept."""
        with self.lock:
            rows, next_seq = self.store.dump()
            paused = self.deliveries.settings.paused
            now, ids = self.clock.now(), self.ids.state()
            return self.snapshots.keep(name, Snapshot(now, paused, ids, next_seq, rows))

    def restore(self, name: str) -> int:
        """Go back to a snapshot, its time included; return that time.

        Faults end, the log of requests stays. Raises NoSuchSnapshot.
        """
        with self.lock:
            kept = self.snapshots.get(name)
            self._forget()
            self.store.restore(kept.rows, kept.next_seq)
            self.clock.restore(kept.now)
            self._keep_clock()
            self.ids.restore(kept.ids)
            self.deliveries.settings.paused = kept.paused
            self.deliveries.wake()
            return self.clock.now()

    def _forget(self) -> None:
        """End what would carry over to other records."""
        self.faults.clear()
        self.webhook_faults.clear()
        self.scheduler.clear()
        self.deliveries.forget()

    def reset(self) -> None:
        """Forget all but the snapshots and the endpoints registered at the start."""
        with self.lock:
            self._forget()
            self.store.clear()
            self.clock.reset()
            self.log.clear()
            for options in self._fixed_endpoints:
                self.register_endpoint(**options)

    def close(self) -> None:
        """Stop deliveries, let delayed requests go, close the state file."""
        self._closing.set()
        self.faults.clear()
        self.deliveries.stop()
        with self.lock:
            self.store.close()

    def _answer(self, call: Call) -> Response:
        auth.check(call.request, self.api_key)
        versions.check(call.request)
        self.rate_limit.take(settings.read(self.store).rate_limit)
        self._read(call)
        call.fault = self.faults.take(
            call.request.method, call.request.path, call.given
        )
        replay = self._begin(call)
        try:
            response = call.before(self.clock.now())
            if response is None:
                response = replay or self._execute(call)
        finally:
            if call.key is not None and replay is None:
                self._end(call.key)
        return call.after(self._finish(call, response))

    def _read(self, call: Call) -> None:
        request = call.request
        found = REGISTRY.find(request.method, request.path)
        if found is None:
            raise unrecognized_url(request.method, request.path)
        call.route, call.ids = found
        call.given = forms.read(request)
        call.params = call.route.shape.read(call.given)
        call.key = key_of(request)

    def _begin(self, call: Call) -> Response | None:
        if call.key is None:
            return None
        with self.lock:
            return self.answers.begin(
                call.key, call.request.path, call.given, self.clock.now()
            )

    def _end(self, key: str) -> None:
        with self.lock:
            self.answers.end(key)

    def _execute(self, call: Call) -> Response:
        """Do the work and keep its answer in one transaction.

        An error undoes the work; its answer is then kept by itself.
        """

        def work(context: Context) -> Response:
            context.request_id, context.idempotency_key = call.id, call.key
            try:
                response = json_response(200, self._perform(context, call))
            except StripeError as error:
                if not error.committed:
                    raise
                response = self._error(call, error)
            return self._keep(context, call, call.instead(response, context.now))

        with self.lock:
            try:
                return self.transact(work)
            except StripeError as error:
                response = self._error(call, error)
                if not error.stored:
                    return response
                return self.transact(
                    lambda context: self._keep(context, call, response)
                )

    def _perform(self, context: Context, call: Call) -> dict[str, Any]:
        retention.purge(self.store, context.now)
        record = call.route.handler(context, call.params, *call.ids)
        shown = self._show(context, record)
        paths = call.params.get("expand", [])
        return Expansion(self.store, REGISTRY).apply(shown, paths) if paths else shown

    def _show(self, context: Context, record: Record) -> dict[str, Any]:
        if record["object"] == "list":
            data = [context.show(item) for item in record["data"]]
            return {**record, "data": data}
        return context.show(record)

    def _keep(self, context: Context, call: Call, response: Response) -> Response:
        response = self._finish(call, response)
        if call.key is None:
            return response
        return self.answers.keep(
            call.key, call.request.path, call.given, response, context.now
        )

    def _context(self, now: int) -> Context:
        url = self.public_url
        return Context(self.store, REGISTRY, self.ids, now, public_url=url)

    def _unit(self, work: Callable[[Context], Result], context: Context) -> Result:
        try:
            result = work(context)
        except BaseException:
            self.store.rollback()
            raise
        self.store.commit()
        if context.queued:
            self.webhook_faults.apply(self.store, context.queued, context.now)
            self.store.commit()
            self.deliveries.wake()
        return result

    def _error(self, call: Call, error: StripeError) -> Response:
        body = error.body(request_id=call.id, now=self.clock.now())
        return self._finish(call, json_response(error.status, body, error.headers))

    def _finish(self, call: Call, response: Response) -> Response:
        headers: Mapping[str, str] = {
            **response.headers,
            "Request-Id": call.id,
            "Stripe-Version": API_VERSION,
            **({"Idempotency-Key": call.key} if call.key else {}),
        }
        return Response(response.status, response.body, headers, response.broken)


def _running(
    run: Callable[[Context, Record], None], record: Record
) -> Callable[[Context], None]:
    return lambda context: run(context, record)
