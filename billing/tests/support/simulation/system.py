"""Simulation of the whole system in one process, on a clock that the tests move.

PostgreSQL, the sandbox Stripe, wallets and prices are on real sockets as in other
tests. Webhooks are posted to the real view, due tasks come from the real beat schedule,
and this thread acts as all workers: see `workers`.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Self

import stripe
import time_machine
from django.apps import apps
from django.conf import settings
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone

from billing.clients.stripe.client import Stripe
from billing.models import InvoiceCollection, SubscriptionSync
from billing.services.customers.catalog import ensure_prices
from billing.tests.support.simulation.holds import Holds
from billing.tests.support.simulation.stripe_history import StripeHistory
from billing.tests.support.workers import Killed, Workers
from caravel.celery import app as celery
from caravel.core.db.work_items import WorkItem
from caravel.tests.support import initial_rows
from lightning.clients import nwc_info
from lightning.services import rates
from relays.models import Plan
from sandbox.common.server import Server
from sandbox.prices.feed import PriceFeed
from sandbox.stripe.app import StripeApp
from sandbox.stripe.client.in_process import in_process_client
from sandbox.stripe.client.testing import API_KEY, WEBHOOK_SECRET, Sandbox
from sandbox.stripe.server import StripeServer
from sandbox.tests.support.stripe.conformance import (
    ConformanceChecker,
    check_conformance,
)
from sandbox.wallets import Wallets

START = datetime(2027, 1, 10, 9, tzinfo=UTC)
WEBHOOK = "/stripe/webhook"
#: Duration of a call: no two changes have the same time.
_CALL_DURATION = timedelta(milliseconds=20)
#: Minimum and maximum time between two beats, and maximum beats per `advance`.
_MIN_STEP, _MAX_STEP, _MAX_ROUNDS = timedelta(minutes=1), timedelta(days=4), 5
#: Tasks that have nothing to do with money and make slow relay requests.
_SKIPPED_TASKS = {"publish-identity", "look-up-names"}
#: Seconds that workers wait for a task with a countdown.
_MAX_WAIT = 5.0


class ManualStripeServer(StripeServer):
    """Sandbox server without timers: tests deliver webhooks and advance its clock."""

    def start(self) -> None:
        Server.start(self)

    def stop(self) -> None:
        Server.stop(self)
        self.app.close()


@dataclass
class Servers:
    """The servers of a system, reused by the next one."""

    stripe: Sandbox
    conformity: ConformanceChecker
    wallets: Wallets
    feed: PriceFeed
    seeds: Any
    receive: Callable[[bytes, Any], int] = lambda body, headers: 0


@contextmanager
def running_servers(wallets: Wallets, feed: PriceFeed) -> Iterator[Servers]:
    """Serve a sandbox Stripe whose webhooks reach the current system."""
    created: list[Servers] = []
    app = StripeApp(
        seed=1,
        post=lambda url, body, headers: created[0].receive(body, headers),
        retry_delays=(0.0,),
    )
    app.register_endpoint(f"https://caravel.example{WEBHOOK}", secret=WEBHOOK_SECRET)
    server = ManualStripeServer(app)
    server.start()
    try:
        with check_conformance(app) as conformity:
            sandbox = Sandbox(server, API_KEY)
            created.append(
                Servers(sandbox, conformity, wallets, feed, seeds=app.ids.state())
            )
            yield created[0]
    finally:
        server.stop()


@dataclass(frozen=True)
class BeatRound:
    """State after a beat and all its tasks: tenants with a pending sync."""

    at: float
    stripe_fails: bool
    waiting: frozenset[str]


class System:
    """The system from its first day: `with System(servers, seed=1) as system: …`"""

    def __init__(self, servers: Servers, *, seed: int = 0) -> None:
        self.servers = servers
        self.stripe = servers.stripe
        self.wallets = servers.wallets
        self.workers = Workers(seed, now=time.time, pass_time=self._pass_time)
        self.api = in_process_client(self.stripe.app)
        #: Tenants whose balance cannot be checked: see `exclude_from_balance`.
        self.excluded_tenants: set[str] = set()
        #: Tenants whose relays may run for free: support has extended their grace.
        self.tenants_with_more_grace: set[str] = set()
        #: Subscriptions that staff copied from one of Caravel's.
        self.duplicates: set[str] = set()
        self.holds = Holds()
        #: Charges that payers made themselves on Stripe's page.
        self.charges_by_payers: set[str] = set()
        self._client = Client()
        self.history = StripeHistory(self.stripe.app.store)
        self.rounds: list[BeatRound] = []
        self._stack = ExitStack()
        self._last_run_at: dict[str, float] = {}

    def __enter__(self) -> Self:
        travel = time_machine.travel(START, tick=False)
        self._clock = self._stack.enter_context(travel)
        self._stack.enter_context(self.workers.installed())
        self._reset()
        return self

    def __exit__(self, *exc: object) -> None:
        self.servers.receive = lambda body, headers: 0
        self._stack.close()

    def _reset(self) -> None:
        empty_database()
        # The wallet's ledger still has the invoices of earlier systems.
        self.first_issued = len(self.wallets.ledger.issued_by("platform"))
        self.stripe.reset()
        self.stripe.app.ids.restore(self.servers.seeds)
        self.stripe.pause_webhooks(False)
        self.servers.feed.reset()
        self.servers.receive = self._receive
        rates.clear_cache()
        nwc_info.clear_scheme_cache()
        self.prices = {
            price.plan_id: price.price_id for price in ensure_prices(Stripe())
        }

    # --- time

    @property
    def now(self) -> datetime:
        return timezone.now()

    def advance(self, delta: timedelta) -> None:
        """Let time pass, with a beat whenever something is due.

        Over long times the beat is less frequent and may be a little late.
        """
        target = self.now + delta
        min_step = max(_MIN_STEP, delta / _MAX_ROUNDS)
        while self.now < target:
            moment = max(self._next_due() or target, self.now + min_step)
            self._move_clock(min(moment, target, self.now + max(_MAX_STEP, min_step)))
            self.run_round()

    def advance_stripe(self, delta: timedelta) -> None:
        """Let time pass at Stripe only: Caravel's processes are down."""
        self._move_clock(self.now + delta)
        self.stripe.advance(0)

    def run_round(self) -> None:
        """Run a beat and everything that is due now."""
        has_faults = bool(self.stripe.app.faults.list())
        self.stripe.advance(0)
        self.wallets.schedule.run_due()
        self.run()
        self._run_beat()
        self.run()
        self.history.save()
        waiting = frozenset(
            SubscriptionSync.objects.stale().values_list("pk", flat=True)
        )
        self.rounds.append(BeatRound(time.time(), has_faults, waiting))

    def run(self) -> None:
        """Deliver webhooks and run tasks until there are none."""
        while True:
            done = self.stripe.app.deliveries.deliver_due() + self.workers.work()
            soonest = self.workers.next_at
            if soonest is not None and soonest - time.time() <= _MAX_WAIT:
                self._move_clock(datetime.fromtimestamp(soonest, UTC))
            elif not done:
                return

    def recover(self) -> None:
        """Clear all faults, then let four hours pass: no payment is pending longer."""
        self.clear_api_faults()
        self.stripe.pause_webhooks(False)
        self.workers.clear_faults()
        self.run_round()
        self.advance(timedelta(hours=4))

    def clear_api_faults(self) -> None:
        """Let Stripe answer all requests."""
        self.stripe.clear_faults()
        self.stripe.settings(rate_limit=None)

    def exclude_from_balance(self, pubkey: str) -> None:
        """Exclude a tenant from the check that it pays exactly for the time it used.

        The check does not hold if the customer was deleted with its balance, or if the
        subscription was cancelled at Stripe, which deletes pending prorations.
        """
        self.excluded_tenants.add(pubkey)

    def exclude_if_prorations_are_lost(self, pubkey: str, subscription: str) -> None:
        """Exclude a tenant if a cancellation by a person deletes prorations."""
        store = self.stripe.app.store
        if any(store.scan("invoiceitem", index=("_pending", subscription))):
            self.exclude_from_balance(pubkey)

    def owner_of(self, customer: str) -> str:
        """Return the pubkey of a customer's tenant, also if it is deleted; or ""."""
        return self.history.owner_of(customer)

    @contextmanager
    def paid_by_the_payer(self) -> Iterator[None]:
        """Remember the charges made in the block as the payer's own."""
        scan = self.stripe.app.store.scan
        before = {charge["id"] for charge in scan("charge")}
        yield
        self.charges_by_payers |= {charge["id"] for charge in scan("charge")} - before

    def _move_clock(self, moment: datetime) -> None:
        if moment > self.now:
            self._clock.move_to(moment)

    def _pass_time(self) -> None:
        self._clock.shift(_CALL_DURATION)

    def _run_beat(self) -> None:
        for name, entry in settings.CELERY_BEAT_SCHEDULE.items():
            if name in _SKIPPED_TASKS:
                continue
            since = time.time() - self._last_run_at.get(name, 0)
            if since >= int(str(entry["schedule"])):
                self._last_run_at[name] = time.time()
                celery.tasks[str(entry["task"])].apply_async()

    def _next_due(self) -> datetime | None:
        app = self.stripe.app
        seconds = [
            app.scheduler.next_at(),
            app.deliveries.next_release(),
            self.workers.next_at,
        ]
        moments = [datetime.fromtimestamp(due, UTC) for due in seconds if due]
        moments += [due for due in self._next_values() if due]
        return min((moment for moment in moments if moment > self.now), default=None)

    def _next_values(self) -> list[datetime | None]:
        """Return the first later moment in each column, read by one statement."""
        with connection.cursor() as cursor:
            cursor.execute(_next_values_sql(), {"now": self.now})
            row: tuple[datetime | None, ...] = cursor.fetchone()
        return list(row)

    # --- the inbox

    def _receive(self, body: bytes, headers: Any) -> int:
        try:
            with self.workers.in_process():
                response = self._client.post(
                    WEBHOOK,
                    body,
                    content_type="application/json",
                    headers={"Stripe-Signature": headers["Stripe-Signature"]},
                )
        except Killed as exc:
            raise ConnectionResetError("the web process was killed") from exc
        return response.status_code


@cache
def _next_values_sql() -> str:
    items = [model for model in apps.get_models() if issubclass(model, WorkItem)]
    columns = [(model, "next_attempt_at") for model in items]
    columns.append((InvoiceCollection, "suspend_at"))
    values = (
        f'(SELECT MIN("{name}") FROM "{model._meta.db_table}" WHERE "{name}" > %(now)s)'
        for model, name in columns
    )
    return f"SELECT {', '.join(values)}"


@cache
def _deletion_sql() -> str:
    excluded = {Plan._meta.db_table, "django_migrations", "django_content_type"}
    excluded |= {"auth_permission"}
    names = connection.introspection.django_table_names(
        only_existing=True, include_views=False
    )
    return initial_rows.deletion_sql(name for name in names if name not in excluded)


def empty_database() -> None:
    """Delete all rows, except plans and other rows created by migrations.

    The test's teardown does so after the last system.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_deletion_sql())


def is_refused(request: Callable[[], object]) -> bool:
    """Run a Stripe request. Returns whether it was refused or failed."""
    try:
        request()
    except stripe.StripeError:
        return True
    return False
