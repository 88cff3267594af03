"""The benchmark of wallet payments: it measures real payments and reports errors."""

from dataclasses import replace

import pytest

from benchmarks import hostile_relays, wallet_payments
from benchmarks.support import counterparts
from benchmarks.support.results import Results
from benchmarks.support.wallets import burst
from benchmarks.support.wallets.burst import Burst
from billing.tests.support.processes import environment
from caravel.nostr.relays.pool import close_pool
from lightning.models import LightningInvoice, NwcPayment
from lightning.services import rates

GOOD = Burst(100, 2.0, 1, 16, 120.0)
ALONE = Burst(10, 10.0, 1, 2, 120.0)


@pytest.fixture
def parties(settings):
    """A relay, wallets and prices in a separate process, used by this one."""
    with counterparts.running() as running:
        settings.ROBOT_WALLETS = [running.environment["ROBOT_WALLET"]]
        settings.BTC_PRICE_URLS = running.environment["BTC_PRICE_URLS"].split(",")
        settings.NWC_ALLOW_PRIVATE_RELAYS = True
        settings.ROBOT_WALLET_REQUESTS_PER_MINUTE = 100_000
        rates.clear_cache()
        yield running
        close_pool()
        rates.clear_cache()


@pytest.mark.processes
@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_burst_measures_and_checks_payments_of_a_real_worker(parties, tmp_path):
    log = tmp_path / "log"

    measured = burst.measure(
        parties,
        environment(),
        payments=6,
        wallet_seconds=0.1,
        log=log,
        one_by_one=True,
    )

    assert measured.faults == ()
    assert measured.payments == 6
    assert measured.seconds > 0.6  # the wallets pay one by one
    assert measured.cpu > 0
    # One of our wallet, and one that the tenants' wallets share.
    assert measured.relay_connections == 2
    assert measured.database_connections > 0
    assert measured.memory > 10
    rows = NwcPayment.objects.values_list("stripe_invoice_id", "pk")
    due = {name.removeprefix("in_"): pk for name, pk in rows}
    first, second, *_ = due
    NwcPayment.objects.filter(pk=due[first]).update(state="failed")
    invoices = LightningInvoice.objects.filter(payment=due[second])
    invoices.update(amount_msat=invoices.get().amount_msat + 1)
    faults = burst._find_faults(parties, due)
    assert faults[0] == f"{first}: failed "
    assert faults[1].startswith(f"{second}: debited [")
    assert len(faults) == 2


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({}, []),
        ({"seconds": 4.1}, ["speedup_100_1"]),
        ({"relay_connections": 2}, ["connections_100_1"]),
        ({"faults": ("wallet-1: debited []",)}, ["faults_100_1"]),
    ],
)
def test_figures_name_the_limit_that_is_missed(changes, missed):
    results = Results("wallet_payments", quick=True)

    wallet_payments.add_burst(results, "100_1", 1, replace(GOOD, **changes), ALONE)

    assert [key for key, f in results.figures.items() if not f.is_kept] == missed


@pytest.mark.parametrize(
    ("beside", "missed"), [(1.9, []), (2.1, ["ratio"])], ids=["shorter", "longer"]
)
def test_payments_beside_hostile_relays_take_at_most_twice_as_long(beside, missed):
    results = Results("hostile_relays", quick=True)

    hostile_relays.report(results, [0.9, 1.0, 7.0], [0.1, beside, 9.0])

    assert results.missed == missed
