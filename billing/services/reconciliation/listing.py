"""Listing all subscriptions from Stripe into the database, a page at a time.

Threads wait for Stripe; only the calling one uses the database. A page is stored, and
the cursor of its window moved, in one transaction: the list can be continued after any
interruption, and no subscription is listed twice.
"""

import re
import threading
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F
from psycopg.types.json import Jsonb

from billing.clients.stripe.client import Stripe, Subscription
from billing.clients.stripe.errors import StripeRefused
from billing.clients.stripe.subscriptions import SubscriptionPage
from billing.clients.stripe.types import to_datetime
from billing.models import (
    ReconciliationRun,
    ReconciliationWindow,
    StagedSubscription,
)
from billing.services.invoices.ownership import TENANT_KEY
from billing.services.reconciliation.windows import restart_window
from caravel.core.db.leases import Lease
from caravel.core.exceptions import LeaseLost

#: Pages that are requested at once: they are also all that is in memory.
_THREADS = 16
#: Share of all requests. People have a fifth; syncs and payments need the rest.
_RATE_SHARE = 0.5
#: Pages per second at most. Stripe allows 25 requests to one endpoint, and syncs list
#: subscriptions, too: https://docs.stripe.com/rate-limits
_MAX_RATE = 20.0
#: Seconds after which the lease is renewed if no page has come.
_MAX_WAIT = 5.0
_PUBKEY = re.compile(r"[0-9a-f]{64}")
_COLUMNS = [field.attname for field in StagedSubscription._meta.concrete_fields]
_COPY = f"COPY {StagedSubscription._meta.db_table} ({', '.join(_COLUMNS)}) FROM STDIN"
Pages = dict["Future[SubscriptionPage]", ReconciliationWindow]


class Pacer:
    """Spaces requests evenly, for any number of threads."""

    def __init__(self, rate: float) -> None:
        self._interval = 1 / rate
        self._next = time.monotonic()
        self._lock = threading.Lock()

    def wait(self) -> None:
        with self._lock:
            at = max(self._next, time.monotonic())
            self._next = at + self._interval
        time.sleep(max(0.0, at - time.monotonic()))


def pages_per_second() -> float:
    """Return how many pages may be requested in a second."""
    return min(settings.STRIPE_MAX_REQUESTS_PER_SECOND * _RATE_SHARE, _MAX_RATE)


class Listing:
    """The list of all subscriptions for one run, by the holder of its lease."""

    def __init__(self, lease: Lease, *, deadline: float) -> None:
        self._lease = lease
        self._deadline = deadline
        self._pacer = Pacer(pages_per_second())
        windows = ReconciliationWindow.objects.filter(run=lease.pk)
        self._waiting = deque(windows.filter(done=False))

    def read(self) -> bool:
        """Read until the end or the deadline; returns whether all are listed.

        Raises StripeError, and LeaseLost if another worker has taken over.
        """
        pages: Pages = {}
        with ThreadPoolExecutor(_THREADS) as pool:
            try:
                while self._request_pages(pool, pages):
                    done, _ = wait(pages, _MAX_WAIT, FIRST_COMPLETED)
                    self._lease.renew()
                    for future in done:
                        self._store(future, pages.pop(future))
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
        return not self._waiting

    def _request_pages(self, pool: ThreadPoolExecutor, pages: Pages) -> bool:
        """Request the next pages; returns whether any is under way."""
        in_time = time.monotonic() < self._deadline
        while in_time and self._waiting and len(pages) < _THREADS:
            window = self._waiting.popleft()
            pages[pool.submit(self._fetch, window)] = window
        return bool(pages)

    def _fetch(self, window: ReconciliationWindow) -> SubscriptionPage:
        self._pacer.wait()
        bounds = {"gte": window.created_gte, "lt": window.created_lt}
        return Stripe().subscriptions.list_page(
            created={name: at for name, at in bounds.items() if at is not None},
            starting_after=window.starting_after,
        )

    def _store(
        self, future: "Future[SubscriptionPage]", window: ReconciliationWindow
    ) -> None:
        try:
            page = future.result()
        except StripeRefused as exc:
            if exc.param != "starting_after":
                raise
            restart_window(window)
            self._waiting.append(window)
            return
        store_page(self._lease, window, page)
        if not window.done:
            # First, so that the windows that were begun are also finished first.
            self._waiting.appendleft(window)


def store_page(
    lease: Lease, window: ReconciliationWindow, page: SubscriptionPage
) -> None:
    """Add a page to the listed subscriptions, and move the cursor of its window.

    Raises LeaseLost if another worker has read the page as well.
    """
    count = len(page.subscriptions)
    with transaction.atomic():
        run = ReconciliationRun.objects.filter(pk__in=lease.row())
        held = run.update(
            requests=F("requests") + 1, subscriptions=F("subscriptions") + count
        )
        rows = ReconciliationWindow.objects.filter(
            pk=window.pk, starting_after=window.starting_after, done=False
        )
        moved = rows.update(
            starting_after=page.last_id,
            count=F("count") + count,
            done=not page.last_id,
        )
        if not (held and moved):
            raise LeaseLost("Another worker has taken over the reconciliation.")
        _copy(page.subscriptions)
    window.starting_after, window.done = page.last_id, not page.last_id


def _copy(subscriptions: Iterable[Subscription]) -> None:
    with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        for subscription in subscriptions:
            row = _row(subscription)
            copy.write_row([row[column] for column in _COLUMNS])


def _row(subscription: Subscription) -> dict[str, Any]:
    pubkey = subscription.metadata.get(TENANT_KEY, "")
    # The first of two items of a price counts, as in `subscriptions.diff`.
    items = {item.price: item.quantity for item in reversed(subscription.items)}
    return {
        "id": subscription.id,
        "customer": subscription.customer,
        "created": subscription.created,
        "status": subscription.status,
        "collection_method": subscription.collection_method,
        # Anybody with access to Stripe can write any text into metadata.
        "tenant_pubkey": pubkey if _PUBKEY.fullmatch(pubkey) else "",
        "items": Jsonb(items),
        "item_count": len(subscription.items),
        "latest_invoice": subscription.latest_invoice,
        "discounts": Jsonb(subscription.discounts),
        "tax_rates": Jsonb([rate.id for rate in subscription.default_tax_rates]),
        "item_terms": Jsonb(subscription.item_terms),
        "pause_behavior": subscription.pause_behavior,
        "pause_resumes_at": to_datetime(subscription.pause_resumes_at),
        "paused_at": to_datetime(subscription.paused_at),
    }
