"""Listing all subscriptions: windows, pages, interruptions and Stripe's failures."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
import time_machine
from django.db import connection
from django.utils import timezone

from billing.clients.stripe import subscriptions as client
from billing.clients.stripe.client import Stripe
from billing.models import (
    ReconciliationRun,
    ReconciliationWindow,
    StagedSubscription,
)
from billing.services.reconciliation import listing, windows
from billing.services.reconciliation.listing import Pacer, store_page
from billing.services.reconciliation.reconcile import (
    RunOutcome,
    begin_run,
    continue_run,
)
from billing.services.reconciliation.windows import prepare_windows
from billing.tests.support.reconciliation.runs import reconcile
from billing.tests.support.subscriptions import (
    SUBSCRIPTIONS_PATH,
    rewrite_subscription,
)
from caravel.core.db.leases import Lease
from caravel.core.exceptions import LeaseLost
from sandbox.tests.support.stripe import builders

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch):
    monkeypatch.setattr(client, "PAGE_SIZE", 2)
    monkeypatch.setattr(windows, "_MIN_SUBSCRIPTIONS", 2)


@pytest.fixture
def listed(sandbox) -> list[str]:
    """Five subscriptions, each created in a second of its own."""
    api = sandbox.client()
    customer, price = builders.customer(api), builders.price(api)
    ids = []
    for _ in range(5):
        ids.append(builders.subscription(api, price, to=customer).id)
        sandbox.advance(1)
    return ids


def staged() -> list[str]:
    return list(StagedSubscription.objects.values_list("pk", flat=True))


def list_requests(sandbox) -> int:
    return len(sandbox.requests("GET", SUBSCRIPTIONS_PATH))


def fail_second_page(sandbox, ids, **fault) -> None:
    # Newest first: the first page ends with the second newest one.
    sandbox.fault(
        **{"kind": "status", "times": 3, **fault},
        method="GET",
        path=SUBSCRIPTIONS_PATH,
        params={"starting_after": ids[3]},
    )


def test_first_run_lists_each_subscription_once_in_one_window(sandbox, listed):
    run = reconcile()

    assert sorted(staged()) == sorted(listed)
    assert (run.requests, run.subscriptions, run.windows.count()) == (3, 5, 1)


def test_listed_subscriptions_are_read_as_those_of_one_customer(sandbox, subscriber):
    api = sandbox.client()
    id = str(subscriber.stripe_subscription_id)
    pause = {"behavior": "void", "resumes_at": sandbox.now() + builders.DAY}
    api.v1.subscriptions.update(
        id,
        {
            "discounts": [{"coupon": builders.coupon(api).id}],
            "default_tax_rates": [builders.tax_rate(api).id],
            "pause_collection": pause,
        },
    )

    page = Stripe().subscriptions.list_page(created={})

    customer = str(subscriber.stripe_customer_id)
    assert page.subscriptions == Stripe().subscriptions.list(customer=customer)


def test_next_run_divides_the_time_by_what_the_last_one_listed(sandbox, listed):
    reconcile()

    run = reconcile()

    bounds = list(run.windows.values_list("created_gte", "created_lt", "count"))
    created = dict(StagedSubscription.objects.values_list("pk", "created"))
    middle = created[listed[2]]
    assert bounds == [(None, middle, 2), (middle, None, 3)]
    assert sorted(staged()) == sorted(listed)


def test_subscriptions_created_and_cancelled_since_are_in_the_next_list(
    sandbox, listed
):
    reconcile()
    api = sandbox.client()
    api.v1.subscriptions.cancel(listed[0])
    new = builders.subscription(api).id

    reconcile()

    assert sorted(staged()) == sorted([*listed[1:], new])


def test_list_continues_where_stripe_failed(sandbox, listed):
    fail_second_page(sandbox, listed)
    run = begin_run()

    assert continue_run(run_id=run.pk) == RunOutcome.FAILED
    run.refresh_from_db()
    assert (run.requests, run.failures) == (1, 1)
    assert run.last_error_code == "stripe-unavailable"
    assert continue_run(run_id=run.pk) == RunOutcome.NOT_DUE
    with time_machine.travel(run.next_attempt_at):
        assert continue_run(run_id=run.pk) == RunOutcome.FINISHED

    run.refresh_from_db()
    assert (run.requests, run.subscriptions) == (3, 5)
    assert sorted(staged()) == sorted(listed)


def test_rate_limited_page_is_requested_again(sandbox, listed):
    fail_second_page(sandbox, listed, status=429, times=1)

    assert reconcile().requests == 3
    assert list_requests(sandbox) == 4


# Whether Stripe lists on after a deleted object is not documented: "an object ID that
# defines your place in the list", https://docs.stripe.com/api/pagination
def test_window_is_listed_again_when_the_subscription_it_was_at_is_no_more(
    sandbox, listed
):
    fail_second_page(
        sandbox,
        listed,
        times=1,
        status=400,
        error={"type": "invalid_request_error", "param": "starting_after"},
    )

    run = reconcile()

    assert sorted(staged()) == sorted(listed)
    assert run.requests == 4


def test_refused_list_is_told_to_support(sandbox, listed, caplog):
    sandbox.fault(
        "status",
        method="GET",
        path=SUBSCRIPTIONS_PATH,
        status=403,
        error={"type": "invalid_request_error", "message": "no permission"},
    )

    assert continue_run(run_id=begin_run().pk) == RunOutcome.FAILED
    assert "subscriptions_not_listed" in caplog.text


def test_list_is_read_again_after_postgresql_has_emptied_its_table(sandbox, listed):
    fail_second_page(sandbox, listed)
    run = begin_run()
    continue_run(run_id=run.pk)
    StagedSubscription.objects.all().delete()

    with time_machine.travel(timezone.now() + timedelta(minutes=1)):
        continue_run(run_id=run.pk)

    assert sorted(staged()) == sorted(listed)


# https://www.postgresql.org/docs/18/sql-createtable.html#SQL-CREATETABLE-UNLOGGED
def test_table_of_the_list_is_unlogged():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relpersistence FROM pg_class WHERE relname = %s",
            [StagedSubscription._meta.db_table],
        )
        assert cursor.fetchone() == ("u",)


def test_page_is_stored_once_by_two_workers(sandbox, listed):
    lease, window = leased_window()
    other = ReconciliationWindow.objects.get(pk=window.pk)
    page = Stripe().subscriptions.list_page(created={})

    store_page(lease, window, page)
    with pytest.raises(LeaseLost):
        store_page(lease, other, page)

    assert len(staged()) == 2
    assert ReconciliationRun.objects.get().requests == 1


def test_page_is_not_stored_without_the_lease(sandbox, listed):
    lease, window = leased_window()
    page = Stripe().subscriptions.list_page(created={})
    with time_machine.travel(timezone.now() + timedelta(minutes=2)):
        assert Lease.acquire(ReconciliationRun, lease.pk)

    with pytest.raises(LeaseLost):
        store_page(lease, window, page)

    assert staged() == []


def leased_window():
    run = begin_run()
    lease = Lease.acquire(ReconciliationRun, run.pk)
    assert lease
    prepare_windows(lease)
    return lease, run.windows.get()


def test_worker_that_has_lost_the_lease_makes_no_windows(sandbox, listed):
    run = begin_run()
    lease = Lease.acquire(ReconciliationRun, run.pk)
    assert lease

    with time_machine.travel(timezone.now() + timedelta(minutes=2)):
        assert continue_run(run_id=run.pk) == RunOutcome.FINISHED
    with pytest.raises(LeaseLost):
        prepare_windows(lease)

    assert run.windows.count() == 1
    assert sorted(staged()) == sorted(listed)


def test_subscription_that_cannot_be_read_does_not_hide_the_others(
    sandbox, listed, _sandbox
):
    rewrite_subscription(sandbox, listed[2], collection_method=None)

    reconcile()

    rows = dict(StagedSubscription.objects.values_list("pk", "status"))
    assert rows.pop(listed[2]) == "unreadable"
    assert set(rows.values()) == {"active"}
    assert _sandbox[1].pop_problems()


def test_text_in_metadata_that_is_no_key_is_not_stored(sandbox, listed):
    api = sandbox.client()
    metadata = {"tenant_pubkey": "\x00" * 64}
    api.v1.subscriptions.update(listed[0], {"metadata": metadata})

    reconcile()

    row = StagedSubscription.objects.get(pk=listed[0])
    assert row.tenant_pubkey == ""


def test_requests_are_spaced_evenly(monkeypatch):
    slept: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: 100.0, sleep=slept.append)
    monkeypatch.setattr(listing, "time", clock)
    pacer = Pacer(rate=4)

    for _ in range(3):
        pacer.wait()

    assert slept == [0.0, 0.25, 0.5]
