"""What must be true of a world, whatever was done to it, each as a list of faults."""

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
    our_invoices,
    settled_hashes,
)
from billing.tests.support.simulation.served_time import faults_of_accounts
from billing.tests.support.simulation.system import World
from lightning.models import LightningInvoice, NwcPayment
from relays.models import Relay
from sandbox.stripe.books import audit
from sandbox.stripe.store import Record
from tenants.models import Tenant

SHOWN = "a bolt11 that a person was shown"


def faults_at_any_time(world: World) -> list[str]:
    """Return what is wrong and may not be even for a moment."""
    return [
        *audit(world.stripe.app.store),
        *world.ground.conformity.pop_problems(),
        *(fault for id in _invoice_ids() for fault in _two_at_once(id)),
        *_two_subscriptions(world),
        *_unknown_payments(world),
    ]


def faults_in_the_end(world: World) -> list[str]:
    """Return what is wrong though time enough passed without any trouble."""
    return [
        *faults_at_any_time(world),
        *_pending(),
        *_not_booked(world),
        *faults_of_accounts(world),
        *(fault for one in our_invoices(world) for fault in _wrong_sum(world, one)),
        *(fault for one in our_invoices(world) for fault in _not_known(one)),
        *(fault for one in Tenant.objects.all() for fault in _out_of_step(world, one)),
        *(fault for one in Tenant.objects.all() for fault in _wrongly_switched(one)),
        *(fault for one in Credit.objects.all() for fault in _not_posted(world, one)),
    ]


# --- sums


def surplus(invoice: str) -> int:
    """Return what of an invoice's Lightning payments became credit, in cents."""
    hashes = LightningInvoice.objects.of(invoice).values("payment_hash")
    rows = Credit.objects.filter(reason=Credit.Reason.SURPLUS, source__in=hashes)
    return sum(row.amount_cents for row in rows)


def _wrong_sum(world: World, invoice: Record) -> Iterator[str]:
    """Yield when not as much was captured and kept as was asked for."""
    id = invoice["id"]
    asked = invoice["amount_due"] if invoice["status"] == "paid" else 0
    asked -= _carried_over(invoice)
    card, lightning = captured_by_card(world, id), captured_by_lightning(world, id)
    if card + lightning - surplus(id) != asked:
        yield (
            f"{id} ({invoice['status']}) asked for {asked} and got {card} by card, "
            f"{lightning} by Lightning, of which {surplus(id)} became credit"
        )


def _carried_over(invoice: Record) -> int:
    """Return what of an invoice is owed with the next one: too little to be charged.

    Its note could not take it off, so it was marked as paid, by no payment.
    """
    kind = StripeWrite.Kind.CREATE_CREDIT_NOTE
    closing = StripeWrite.objects.of(kind, invoice["id"]).filter(params__closes=True)
    marked = Settlement.objects.filter(
        collection=invoice["id"], state=Settlement.State.MARKED
    )
    if marked.exists() or not closing.exists():
        return 0
    return int(invoice["_paid_off_stripe"])


# --- one thing at a time


@dataclass(frozen=True)
class _Claim:
    """Something that could pay an invoice, from a moment up to another, or to now."""

    rail: str
    start: datetime
    end: datetime | None


def _claims(invoice: str) -> list[_Claim]:
    wallets = NwcPayment.objects.filter(stripe_invoice_id=invoice)
    cards = CardAttempt.objects.filter(collection=invoice)
    shown = LightningInvoice.objects.of(invoice).exclude(shown_at=None)
    return [
        *(_Claim("a wallet", one.created_at, one.resolved_at) for one in wallets),
        *(_Claim("a card", one.created_at, one.resolved_at) for one in cards),
        *(
            _Claim(SHOWN, one.shown_at, None if one.is_watched else one.answered_at)
            for one in shown
            if one.shown_at
        ),
    ]


def _two_at_once(invoice: str) -> Iterator[str]:
    for first, second in permutations(_claims(invoice), 2):
        # An expired one is live for hours; a person need not wait for that.
        if first.rail == second.rail == SHOWN:
            continue
        begun = first.start < second.start
        if begun and (first.end is None or second.start < first.end):
            yield f"{invoice}: {second.rail} began while {first.rail} might pay"


def _two_subscriptions(world: World) -> Iterator[str]:
    found = [one["metadata"]["tenant_pubkey"] for one in live_subscriptions(world)]
    for pubkey in sorted({one for one in found if found.count(one) > 1}):
        yield f"{pubkey} has {found.count(pubkey)} live subscriptions"


# --- nothing is lost


def _unknown_payments(world: World) -> Iterator[str]:
    known = LightningInvoice.objects.values_list("payment_hash", flat=True)
    for payment_hash in settled_hashes(world) - set(known):
        yield f"our wallet was paid {payment_hash}, of which nothing is known"


def _not_booked(world: World) -> Iterator[str]:
    booked = Settlement.objects.exclude(state=Settlement.State.MARKING)
    found = set(booked.values_list("invoice__payment_hash", flat=True))
    for payment_hash in settled_hashes(world) ^ found:
        yield f"{payment_hash} is paid or booked, not both"


def _pending() -> Iterator[str]:
    waiting = {
        "attempts of wallets": NwcPayment.objects.pending(),
        "attempts of cards": CardAttempt.objects.pending(),
        "bolt11s": LightningInvoice.objects.watched(),
        "writes": StripeWrite.objects.pending(),
        "events": StripeEvent.objects.exclude(status=StripeEvent.Status.PROCESSED),
        "syncs": SubscriptionSync.objects.stale(),
        "collections that fail": InvoiceCollection.objects.filter(failures__gt=0),
        "collections under way": InvoiceCollection.objects.filter(
            state__in=["collecting", "pending"]
        ),
    }
    for what, rows in waiting.items():
        for row in rows:
            error = getattr(row, "last_error", "")
            yield f"{what}: {row!r} {row.pk} is not done; {error}"


def _not_known(invoice: Record) -> Iterator[str]:
    """Yield when an invoice of ours is not collected, or is not what we think."""
    row = InvoiceCollection.objects.filter(pk=invoice["id"]).first()
    if row is None:
        yield f"{invoice['id']} ({invoice['status']}) is not collected"
        return
    ours = row.stripe_status, row.amount_remaining_cents
    if ours != (invoice["status"], invoice["amount_remaining"]):
        yield f"{row.pk} is {invoice['status']}, {invoice['amount_remaining']}: {ours}"
    if row.is_final != (row.state == InvoiceCollection.State.CLOSED):
        yield f"{row.pk} is {row.stripe_status} and {row.state}"


def _out_of_step(world: World, tenant: Tenant) -> Iterator[str]:
    if is_blocked(tenant):
        return
    items: dict[str, int] = {}
    for subscription in live_subscriptions(world):
        if subscription["metadata"]["tenant_pubkey"] == tenant.pk:
            items |= _items(world, subscription)
    if items != desired_items(tenant.pk):
        yield f"{tenant.pk} has {items} at Stripe and {desired_items(tenant.pk)} here"


def _wrongly_switched(tenant: Tenant) -> Iterator[str]:
    """Yield when relays do not run as the invoices have it."""
    relays = Relay.objects.filter(tenant=tenant)
    wrong = relays.billable() if is_suspended(tenant) else relays.delinquent()
    for relay in wrong:
        yield f"{relay} of {tenant.pk} is {relay.status}"
    if (tenant.payment_overdue_since is not None) != is_blocked(tenant):
        yield f"{tenant.pk} is in debt, or so marked, not both"


def _not_posted(world: World, credit: Credit) -> Iterator[str]:
    """Yield when what we owe is not at Stripe, just once and all of it."""
    if credit.state == Credit.State.OWED:
        if credit.tenant.stripe_customer_id:
            yield f"{credit!r} is owed; {credit.last_error}"
        return
    noted = sum(note["amount"] for note in _made_for(world, "credit_note", credit))
    kind = "customer_balance_transaction"
    # Of Stripe's balance a negative amount is credit.
    given = -sum(change["amount"] for change in _made_for(world, kind, credit))
    if (noted, given) != (credit.note_cents, credit.balance_cents):
        yield f"{credit!r} made notes over {noted} and gave {given}"
    total = noted + given
    # What was not served need not have been paid.
    exact = credit.reason == Credit.Reason.SURPLUS
    if total > credit.amount_cents or (exact and total != credit.amount_cents):
        yield f"{credit!r} gave {total} of {credit.amount_cents}"


def _made_for(world: World, kind: str, credit: Credit) -> list[Record]:
    name = str(credit.pk)
    made = world.stripe.app.store.scan(kind)
    return [one for one in made if _names(one, name)]


def _names(made: Record, name: str) -> bool:
    named = (made["metadata"] or {}).get("caravel_credit") == name
    return named and made.get("status") != "void"


def _items(world: World, subscription: Record) -> dict[str, int]:
    found = world.api.v1.subscriptions.retrieve(subscription["id"])
    return {item.price.id: item.quantity or 0 for item in found["items"].data}


def _invoice_ids() -> list[str]:
    return list(InvoiceCollection.objects.values_list("pk", flat=True))
