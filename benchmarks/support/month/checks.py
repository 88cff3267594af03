"""Checks that each invoice was collected exactly once. Needs django.setup()."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.support.month.tenants import Payer
from billing.models import Credit, InvoiceCollection, Settlement
from lightning.models import LightningInvoice, NwcPayment
from sandbox.demo.system import System
from sandbox.stripe.store.sqlite import SqliteJournal
from sandbox.wallets.database import Database
from sandbox.wallets.ledger import Ledger
from tenants.models import Notice

PaidBy = InvoiceCollection.PaidBy


def find_faults(system: System, payers: Sequence[Payer]) -> list[str]:
    """Describe what is not as if each tenant had paid one invoice once.

    The processes have ended: what wallets and Stripe hold is read from their files.
    """
    return [*_wallet_faults(system, payers), *_own_faults(), *_stripe_faults(system)]


def _wallet_faults(system: System, payers: Sequence[Payer]) -> Iterator[str]:
    database = Database(system.var / "sandbox-lightning.sqlite")
    ledger = Ledger(database)
    bolt11s = LightningInvoice.objects.filter(payment__isnull=False)
    asked: dict[str, list[int]] = {}
    for tenant, msat in bolt11s.values_list("tenant_id", "amount_msat"):
        asked.setdefault(tenant, []).append(msat)
    for payer in payers:
        debits = ledger.debits(payer.wallet)
        if len(debits) != 1 or debits != asked.get(payer.pubkey):
            yield f"{payer.wallet}: debited {debits}"
    database.close()


def _own_faults() -> Iterator[str]:
    unpaid = InvoiceCollection.objects.exclude(stripe_status="paid")
    counts = {
        "unpaid invoices": unpaid.count(),
        "renewals not paid by wallet": _renewals()
        .exclude(paid_by=PaidBy.WALLET)
        .count(),
        "unfinished wallet payments": NwcPayment.objects.pending().count(),
        "surplus settlements": Settlement.objects.exclude(surplus_cents=0).count(),
        "credits": Credit.objects.count(),
        "notices": Notice.objects.count(),
    }
    yield from (f"{count} {name}" for name, count in counts.items() if count)
    settled = Settlement.objects.filter(marked_cents__gt=0).count()
    if settled != _renewals().count():
        yield f"{settled} settlements of {_renewals().count()} renewals"


def _renewals() -> Any:
    return InvoiceCollection.objects.filter(billing_reason="subscription_cycle")


def _stripe_faults(system: System) -> Iterator[str]:
    journal = SqliteJournal(system.stripe_state)
    records = [
        row.record for row in journal.load() if row.record and row.kind == "invoice"
    ]
    journal.close()
    cycles = [
        each for each in records if each["billing_reason"] == "subscription_cycle"
    ]
    customers = Counter(each["customer"] for each in cycles)
    yield from (
        f"{name} has {count} renewals"
        for name, count in customers.items()
        if count != 1
    )
    unpaid = sum(each["status"] != "paid" for each in records)
    if unpaid:
        yield f"{unpaid} invoices are not paid at Stripe"
