"""Invariants of a simulated system. Each check returns or yields its violations."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import permutations

from billing.models import (
    CardAttempt,
    Credit,
    InvoiceCollection,
    Settlement,
    StripeEvent,
    StripeWrite,
    SubscriptionSync,
)
from billing.services.dunning.payment_block import is_blocked, is_suspended
from billing.services.subscriptions.diff import desired_items
from billing.tests.support.simulation.balances import (
    captured_by_card,
    captured_by_lightning,
    live_subscriptions,
    settled_hashes,
    tenant_invoices,
)
from billing.tests.support.simulation.edit_faults import edit_faults
from billing.tests.support.simulation.hold_faults import hold_faults
from billing.tests.support.simulation.invoice_money import repaid, surplus
from billing.tests.support.simulation.price_history import drift_faults
from billing.tests.support.simulation.real_wallets import double_payments
from billing.tests.support.simulation.reversal_faults import (
    charge_faults,
    reversal_faults,
)
from billing.tests.support.simulation.served_time import account_faults
from billing.tests.support.simulation.system import System
from lightning.models import LightningInvoice, NwcPayment
from relays.models import Relay
from sandbox.stripe.store.records import Record
from sandbox.tests.support.stripe.audit import audit
from tenants.models import Tenant

PRESENTED = "a presented bolt11"


def immediate_faults(system: System) -> list[str]:
    """Return violations of invariants that must hold at every moment."""
    return [
        *audit(system.stripe.app.store),
        *system.servers.conformity.pop_problems(),
        *(
            fault
            for id in InvoiceCollection.objects.values_list("pk", flat=True)
            for fault in _overlapping_payments(id)
        ),
        *_duplicate_subscriptions(system),
        *_unknown_payments(system),
        *charge_faults(system),
        *double_payments(system),
    ]


def final_faults(system: System) -> list[str]:
    """Return violations of invariants that must hold after a recovery."""
    return [
        *immediate_faults(system),
        *_unfinished_work(),
        *_unbooked_payments(system),
        *account_faults(system),
        *drift_faults(system),
        *reversal_faults(system),
        *hold_faults(system),
        *edit_faults(system),
        *(
            fault
            for invoice in tenant_invoices(system)
            for fault in _wrong_amount(system, invoice)
        ),
        *(
            fault
            for invoice in tenant_invoices(system)
            for fault in _wrong_collection(system, invoice)
        ),
        *(
            fault
            for tenant in Tenant.objects.all()
            for fault in _wrong_subscription_items(system, tenant)
        ),
        *(
            fault
            for tenant in Tenant.objects.all()
            for fault in _wrong_relay_status(system, tenant)
        ),
        *(
            fault
            for credit in Credit.objects.all()
            for fault in _wrong_credit(system, credit)
        ),
    ]


# --- amounts


def _wrong_amount(system: System, invoice: Record) -> Iterator[str]:
    """Check that the captured amount, without surplus, is the amount due."""
    id = invoice["id"]
    due = invoice["amount_due"] if invoice["status"] == "paid" else 0
    due -= _moved_to_next_invoice(invoice)
    due += repaid(system, invoice)
    card, lightning = captured_by_card(system, id), captured_by_lightning(system, id)
    if card + lightning - surplus(id) != due:
        yield (
            f"{id} ({invoice['status']}): {due} due, captured {card} by card, "
            f"{lightning} by Lightning, of which {surplus(id)} became credit"
        )


def _moved_to_next_invoice(invoice: Record) -> int:
    """Return the part of an invoice that is moved to the next one, in cents.

    A remainder below Stripe's minimum charge: the invoice is marked as paid without a
    payment.
    """
    kind = StripeWrite.Kind.CREATE_CREDIT_NOTE
    closing = StripeWrite.objects.of(kind, invoice["id"]).filter(params__closes=True)
    marked = Settlement.objects.filter(
        collection=invoice["id"], state=Settlement.State.MARKED
    )
    if marked.exists() or not closing.exists():
        return 0
    return int(invoice["_paid_off_stripe"])


# --- one payment at a time


@dataclass(frozen=True)
class _PaymentWindow:
    """Time in which an attempt or bolt11 may pay; `end` is None if not over."""

    method: str
    start: datetime
    end: datetime | None


def _payment_windows(invoice: str) -> list[_PaymentWindow]:
    wallets = NwcPayment.objects.filter(stripe_invoice_id=invoice)
    cards = CardAttempt.objects.filter(collection=invoice)
    presented = LightningInvoice.objects.of(invoice).exclude(shown_at=None)
    return [
        *(
            _PaymentWindow("a wallet", attempt.created_at, _end_of(attempt))
            for attempt in wallets
        ),
        *(
            _PaymentWindow("a card", attempt.created_at, attempt.resolved_at)
            for attempt in cards
        ),
        *(
            _PaymentWindow(
                PRESENTED,
                bolt11.shown_at,
                None if bolt11.is_watched else bolt11.answered_at,
            )
            for bolt11 in presented
            if bolt11.shown_at
        ),
    ]


def _end_of(attempt: NwcPayment) -> datetime | None:
    """Return when another payment could start, None if it cannot yet.

    A refusal that our wallet has confirmed is one, though a wallet may break its word
    later and pay after all: the attempt then gets another end.
    """
    ends = [attempt.resolved_at, attempt.resolved_at and attempt.refusal_final_at]
    return min((end for end in ends if end), default=None)


def _overlapping_payments(invoice: str) -> Iterator[str]:
    for first, second in permutations(_payment_windows(invoice), 2):
        # The payer may get a new bolt11 while the expired one is still polled.
        if first.method == second.method == PRESENTED:
            continue
        if first.start < second.start and (
            first.end is None or second.start < first.end
        ):
            yield f"{invoice}: {second.method} started while {first.method} might pay"


def _duplicate_subscriptions(system: System) -> Iterator[str]:
    owners = Counter(
        system.owner_of(subscription["customer"])
        for subscription in live_subscriptions(system)
        if subscription["id"] not in system.duplicates
    )
    for pubkey, count in sorted(owners.items()):
        if count > 1:
            yield f"{pubkey} has {count} live subscriptions"


# --- completeness


def _unknown_payments(system: System) -> Iterator[str]:
    known = LightningInvoice.objects.values_list("payment_hash", flat=True)
    for payment_hash in settled_hashes(system) - set(known):
        yield f"our own wallet received an unknown payment: {payment_hash}"


def _unbooked_payments(system: System) -> Iterator[str]:
    booked = Settlement.objects.exclude(state=Settlement.State.MARKING)
    hashes = set(booked.values_list("invoice__payment_hash", flat=True))
    for payment_hash in settled_hashes(system) ^ hashes:
        yield f"{payment_hash} is either paid or booked, not both"


def _unfinished_work() -> Iterator[str]:
    unfinished = {
        "wallet attempts": NwcPayment.objects.pending(),
        "card attempts": CardAttempt.objects.pending(),
        "bolt11s": LightningInvoice.objects.watched(),
        "writes": StripeWrite.objects.pending(),
        "events": StripeEvent.objects.exclude(status=StripeEvent.Status.PROCESSED),
        "syncs": SubscriptionSync.objects.stale(),
        "failing collections": InvoiceCollection.objects.filter(failures__gt=0),
        "pending collections": InvoiceCollection.objects.filter(
            state__in=["collecting", "pending"]
        ),
    }
    for kind, rows in unfinished.items():
        for row in rows:
            error = getattr(row, "last_error", "")
            yield f"{kind}: {row!r} {row.pk} is unfinished; {error}"


def _wrong_collection(system: System, invoice: Record) -> Iterator[str]:
    """Check that a tenant's invoice is collected and recorded correctly."""
    row = InvoiceCollection.objects.filter(pk=invoice["id"]).first()
    if row is None:
        yield f"{invoice['id']} ({invoice['status']}) is not collected"
        return
    status, amounts = invoice["status"], _remaining(system, invoice)
    recorded = row.stripe_status, row.amount_remaining_cents
    if recorded not in {(status, amount) for amount in amounts}:
        yield f"{row.pk} is {status} over {amounts}, recorded as {recorded}"
    is_settled = row.is_final and not row.dispute_debt_cents
    if is_settled != (row.state == InvoiceCollection.State.CLOSED):
        yield f"{row.pk} is {row.stripe_status} and {row.state}"


def _remaining(system: System, invoice: Record) -> set[int]:
    """Return the amounts to pay that Stripe may have shown last.

    It shows a draft less the credit balance, whose changes no event reports.
    """
    amounts = {int(invoice["amount_remaining"])}
    if invoice["status"] == "draft":
        shown = system.api.v1.invoices.retrieve(invoice["id"])
        amounts.add(shown.amount_remaining)
    return amounts


def _wrong_subscription_items(system: System, tenant: Tenant) -> Iterator[str]:
    """Check that each price is billed as often as relays run on it.

    A price that cannot be sold is not billed more often; decreases are always applied.
    """
    desired = desired_items(tenant.pk)
    items: dict[str, int] = {}
    for subscription in live_subscriptions(system):
        if system.owner_of(subscription["customer"]) == tenant.pk:
            items |= _items(system, subscription)
    for price in sorted({*items, *desired}):
        billed, wanted = items.get(price, 0), desired.get(price, 0)
        may_be_less = is_blocked(tenant) or not _is_sellable(system, price)
        if billed > wanted or (billed < wanted and not may_be_less):
            yield f"{tenant.pk} has {billed} of {price} at Stripe and {wanted} here"


def _is_sellable(system: System, price: str) -> bool:
    record = system.stripe.app.store.get("price", price)
    return bool(record and record["active"])


def _wrong_relay_status(system: System, tenant: Tenant) -> Iterator[str]:
    """Check that relays are off exactly when invoices or a pause say so."""
    relays = Relay.objects.filter(tenant=tenant)
    is_off = is_suspended(tenant) or _is_paused(system, tenant)
    wrong = relays.billable() if is_off else relays.delinquent()
    for relay in wrong:
        yield f"{relay} of {tenant.pk} is {relay.status}"
    if (tenant.payment_overdue_since is not None) != is_blocked(tenant):
        yield f"{tenant.pk} is either overdue or marked as overdue, not both"


def _is_paused(system: System, tenant: Tenant) -> bool:
    return any(
        subscription["status"] == "paused"
        and system.owner_of(subscription["customer"]) == tenant.pk
        for subscription in system.stripe.app.store.scan("subscription")
    )


def _wrong_credit(system: System, credit: Credit) -> Iterator[str]:
    """Check that a credit is at Stripe completely, and only once."""
    if credit.state == Credit.State.OWED:
        is_uncollectible = (
            credit.collection and credit.collection.stripe_status == "uncollectible"
        )
        if credit.tenant.stripe_customer_id and not is_uncollectible:
            yield f"{credit!r} is owed; {credit.last_error}"
        return
    noted = sum(note["amount"] for note in _objects_for(system, "credit_note", credit))
    kind = "customer_balance_transaction"
    # A negative amount on the customer balance is credit:
    # https://docs.stripe.com/billing/customer/balance
    balance = -sum(change["amount"] for change in _objects_for(system, kind, credit))
    if (noted, balance) != (credit.note_cents, credit.balance_cents):
        yield f"{credit!r} has notes over {noted} and a balance of {balance}"
    total = noted + balance
    # Nothing of a void invoice is unused.
    is_void = credit.collection and credit.collection.stripe_status == "void"
    if total != credit.amount_cents and not (is_void and total == 0):
        yield f"{credit!r} credited {total} of {credit.amount_cents}"


def _objects_for(system: System, kind: str, credit: Credit) -> list[Record]:
    name = str(credit.pk)
    objects = system.stripe.app.store.scan(kind)
    return [record for record in objects if _is_for(record, name)]


def _is_for(record: Record, credit_id: str) -> bool:
    is_named = (record["metadata"] or {}).get("caravel_credit") == credit_id
    return is_named and record.get("status") != "void"


def _items(system: System, subscription: Record) -> dict[str, int]:
    live = system.api.v1.subscriptions.retrieve(subscription["id"])
    return {item.price.id: item.quantity or 0 for item in live["items"].data}
