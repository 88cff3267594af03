"""A whole running system in one process, on one clock that the tests move.

PostgreSQL, the sandbox Stripe over its socket, wallets over a real relay and prices
are as elsewhere. Webhooks go into the real inbox, the beat's own schedule finds what
is due, and workers are played by this thread: see `workers`.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any, Self

import stripe
import time_machine
from django.conf import settings
from django.db import connection
from django.db.models import Min
from django.test import Client
from django.utils import timezone

from billing.clients.stripe.client import Stripe
from billing.models import InvoiceCollection, SubscriptionSync
from billing.services.customers.catalog import ensure_prices
from billing.tests.support.workers import Killed, Workers
from caravel.celery import app as celery
from caravel.core.db.work_items import WorkItem
from lightning.clients import nwc
from lightning.services import rates
from relays.models import Plan
from sandbox.prices.feed import PriceFeed
from sandbox.stripe.app import StripeApp
from sandbox.stripe.server import StripeServer
from sandbox.stripe.testing import API_KEY, WEBHOOK_SECRET, Sandbox
from sandbox.stripe.transport import in_process_client
from sandbox.tests.support.conformance import Conformity, watched
from sandbox.wallets import Wallets

START = datetime(2027, 1, 10, 9, tzinfo=UTC)
WEBHOOK = "/stripe/webhook"
#: What a call takes, so that no two things happen at the same moment.
_CALL = timedelta(milliseconds=20)
#: Between two rounds of the beat: at least, at most, and the most in one go.
_LEAST, _MOST, _ROUNDS = timedelta(minutes=1), timedelta(days=4), 8
#: Tasks that are about no money; each costs several looks at relays.
_IDLE = {"publish-identity", "look-up-names"}
#: How far ahead a message may be for the workers to wait for it.
_SOON = 5.0


class QuietServer(StripeServer):
    """A sandbox that delivers webhooks, and does what is due, only when asked."""

    def start(self) -> None:
        serving = threading.Thread(target=self._serve, daemon=True)
        serving.start()
        self._workers.append(serving)


@dataclass
class Ground:
    """What a world stands on; several may, one after the other."""

    stripe: Sandbox
    conformity: Conformity
    wallets: Wallets
    feed: PriceFeed
    seeds: Any
    receive: Callable[[bytes, Any], int] = lambda body, headers: 0


@contextmanager
def ground(wallets: Wallets, feed: PriceFeed) -> Iterator[Ground]:
    """Serve a sandbox Stripe whose webhooks come to the present world."""
    made: list[Ground] = []
    app = StripeApp(
        seed=1,
        post=lambda url, body, headers: made[0].receive(body, headers),
        retry_delays=(0.0,),
    )
    app.register_endpoint(f"https://caravel.example{WEBHOOK}", secret=WEBHOOK_SECRET)
    server = QuietServer(app)
    server.start()
    try:
        with watched(app) as conformity:
            sandbox = Sandbox(server, API_KEY)
            made.append(
                Ground(sandbox, conformity, wallets, feed, seeds=app.ids.state())
            )
            yield made[0]
    finally:
        server.stop()


@dataclass(frozen=True)
class Round:
    """After everybody did what there was to do: whose sync is still to come."""

    at: float
    stripe_fails: bool
    waiting: frozenset[str]


class World:
    """The system from its first day on. `with World(ground, seed=1) as world: …`"""

    def __init__(self, ground: Ground, *, seed: int = 0) -> None:
        self.ground = ground
        self.stripe = ground.stripe
        self.wallets = ground.wallets
        self.workers = Workers(seed, now=time.time, pass_time=self._pass_time)
        self.api = in_process_client(self.stripe.app)
        #: Whom support gave something, by hand: see `favour`.
        self.favoured: set[str] = set()
        #: What Stripe has told of subscriptions, also what it has forgotten since.
        self.subscription_events: list[dict[str, Any]] = []
        self.rounds: list[Round] = []
        self._last_event = ""
        self._stack = ExitStack()
        self._beaten: dict[str, float] = {}

    def __enter__(self) -> Self:
        travel = time_machine.travel(START, tick=False)
        self._clock = self._stack.enter_context(travel)
        self._stack.callback(empty_database)
        self._stack.enter_context(self.workers.hired())
        self._begin()
        return self

    def __exit__(self, *exc: object) -> None:
        self.ground.receive = lambda body, headers: 0
        self._stack.close()

    def _begin(self) -> None:
        empty_database()
        # Our wallet was paid in earlier worlds, too.
        self.first_issued = len(self.wallets.ledger.issued_by("platform"))
        self.stripe.reset()
        self.stripe.app.ids.restore(self.ground.seeds)
        self.stripe.pause_webhooks(False)
        self.ground.feed.reset()
        self.ground.receive = self._receive
        rates.clear_cache()
        nwc.clear_scheme_cache()
        self.prices = {one.plan_id: one.price_id for one in ensure_prices(Stripe())}

    # --- time

    @property
    def now(self) -> datetime:
        return timezone.now()

    def advance(self, delta: timedelta) -> None:
        """Let time pass; at every moment where something is due the beat may find it.

        Of long times not each minute is looked at: then the beat is late by a bit.
        """
        target = self.now + delta
        least = max(_LEAST, delta / _ROUNDS)
        while self.now < target:
            moment = max(self._next_due() or target, self.now + least)
            self._go_to(min(moment, target, self.now + max(_MOST, least)))
            self.turn()

    def turn(self) -> None:
        """One round of everything at the present moment."""
        troubled = bool(self.stripe.app.faults.list())
        self.stripe.advance(0)
        self.wallets.run_due()
        self.run()
        self._beat()
        self.run()
        self._note_events()
        waiting = frozenset(
            SubscriptionSync.objects.stale().values_list("pk", flat=True)
        )
        self.rounds.append(Round(time.time(), troubled, waiting))

    def run(self) -> None:
        """Deliver webhooks and work off messages until there are none."""
        while True:
            done = self.stripe.app.deliveries.deliver_due() + self.workers.work()
            soonest = self.workers.next_at
            if soonest is not None and soonest - time.time() <= _SOON:
                self._go_to(datetime.fromtimestamp(soonest, UTC))
            elif not done:
                return

    def settle(self) -> None:
        """All goes right again for four hours: longer than any payment is unknown."""
        self.stripe.clear_faults()
        self.stripe.settings(rate_limit=None)
        self.stripe.pause_webhooks(False)
        self.workers.forget_faults()
        self.turn()
        self.advance(timedelta(hours=4))

    def favour(self, pubkey: str) -> None:
        """Note that what a tenant gives is not what it gets any more, as support wills.

        That is so for who had an invoice voided or reduced by hand; whose customer was
        deleted, with all that Stripe knew of credit and debts; whose subscription was
        cancelled at Stripe, which deletes prorations that were not billed yet; and who
        may run relays, but not subscribe to them, since an old debt was put off.
        """
        self.favoured.add(pubkey)

    def _note_events(self) -> None:
        """Keep what Stripe forgets after a month."""
        store, last = self.stripe.app.store, self._last_event
        new = list(takewhile(lambda one: one["id"] != last, store.scan("event")))
        if new:
            self._last_event = new[0]["id"]
        self.subscription_events += [
            {**event, "data": json.loads(event["_data"])}
            for event in reversed(new)
            if event["type"].startswith("customer.subscription.")
        ]

    def _go_to(self, moment: datetime) -> None:
        if moment > self.now:
            self._clock.move_to(moment)

    def _pass_time(self) -> None:
        self._clock.shift(_CALL)

    def _beat(self) -> None:
        for name, entry in settings.CELERY_BEAT_SCHEDULE.items():
            if name in _IDLE:
                continue
            since = time.time() - self._beaten.get(name, 0)
            if since >= int(str(entry["schedule"])):
                self._beaten[name] = time.time()
                celery.tasks[str(entry["task"])].apply_async()

    def _next_due(self) -> datetime | None:
        app = self.stripe.app
        seconds = [
            app.scheduler.next_at(),
            app.deliveries.next_release(),
            self.workers.next_at,
        ]
        moments = [datetime.fromtimestamp(one, UTC) for one in seconds if one]
        moments += [one for one in map(self._first, _due_columns()) if one]
        return min((one for one in moments if one > self.now), default=None)

    def _first(self, column: tuple[type[Any], str]) -> datetime | None:
        model, name = column
        later = model.objects.filter(**{f"{name}__gt": self.now})
        found: datetime | None = later.aggregate(first=Min(name))["first"]
        return found

    # --- the inbox

    def _receive(self, body: bytes, headers: Any) -> int:
        try:
            with self.workers.at_work():
                answer = Client().post(
                    WEBHOOK,
                    body,
                    content_type="application/json",
                    headers={"Stripe-Signature": headers["Stripe-Signature"]},
                )
        except Killed as exc:
            raise ConnectionResetError("the web process was killed") from exc
        return answer.status_code


def _due_columns() -> list[tuple[type[Any], str]]:
    work = [(model, "next_attempt_at") for model in WorkItem.__subclasses__()]
    return [*work, (InvoiceCollection, "suspend_at")]


def empty_database() -> None:
    """Delete all rows but those of the plans, which a migration made."""
    kept = {Plan._meta.db_table, "django_migrations", "django_content_type"}
    kept |= {"auth_permission"}
    names = [
        connection.ops.quote_name(name)
        for name in connection.introspection.table_names()
        if name not in kept
    ]
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {', '.join(names)}")


def refused(work: Callable[[], object]) -> bool:
    """Do what Stripe may refuse, or fail at; return whether it did."""
    try:
        work()
    except stripe.StripeError:
        return True
    return False
