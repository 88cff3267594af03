"""A list that PostgreSQL loses in a crash: it is made again before any comparison."""

import math
import time
from types import SimpleNamespace

import pytest

from billing.models import StagedSubscription
from billing.services.reconciliation import reconcile
from billing.services.reconciliation.listing import Listing
from billing.services.reconciliation.reconcile import (
    RunOutcome,
    begin_run,
    continue_run,
)
from billing.tests.support.reconciliation.runs import stale_tenants
from billing.tests.support.subscriptions import add_relay, sync
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def _tenants(sandbox, prices):
    for _ in range(3):
        tenant = TenantFactory()
        add_relay(tenant)
        sync(tenant)


def lose_list() -> None:
    StagedSubscription.objects.all().delete()


def test_list_that_is_lost_before_the_comparison_is_made_again(_tenants, monkeypatch):
    def list_and_lose(listing: Listing) -> bool:
        is_listed = list_all(listing)
        lose_list()
        return is_listed

    list_all = Listing.read
    run = begin_run()
    with monkeypatch.context() as patch:
        patch.setattr(Listing, "read", list_and_lose)
        assert continue_run(run_id=run.pk) == RunOutcome.CONTINUED
    assert stale_tenants() == set()

    assert continue_run(run_id=run.pk) == RunOutcome.FINISHED

    run.refresh_from_db()
    assert (run.drifted, run.subscriptions, run.requests) == ({}, 3, 2)


def test_list_that_is_lost_during_the_comparison_is_made_again(_tenants, monkeypatch):
    monkeypatch.setattr(reconcile, "_CHUNK", 1)
    run = begin_run()
    # The time of the first part ends after its first comparison.
    times = iter([time.monotonic(), math.inf])
    with monkeypatch.context() as patch:
        clock = SimpleNamespace(monotonic=lambda: next(times))
        patch.setattr(reconcile, "time", clock)
        assert continue_run(run_id=run.pk) == RunOutcome.CONTINUED
    lose_list()

    assert continue_run(run_id=run.pk) == RunOutcome.FINISHED

    run.refresh_from_db()
    assert (run.drifted, run.subscriptions, run.requests) == ({}, 3, 2)
