"""The observed outcome of an event, in the database and at Stripe."""

from dataclasses import dataclass, fields

from billing.models import (
    CardAttempt,
    Credit,
    InvoiceCollection,
    Reversal,
    Settlement,
)
from billing.services.subscriptions.diff import LIVE
from billing.tests.support.event_matrix.arrange import PUBKEY, CaseSetup
from lightning.models import LightningInvoice, NwcPayment
from relays.models import Relay
from tenants.models import Notice


@dataclass(frozen=True)
class Outcome:
    """Everything about an invoice and its tenant that an event may change, in cents."""

    status: str
    remaining: int
    #: Amounts paid by card and by Lightning.
    by_card: int
    by_lightning: int
    #: State of each attempt.
    wallets: tuple[str, ...]
    cards: tuple[str, ...]
    settlements: tuple[str, ...]
    credits: tuple[str, ...]
    state: str
    next_action: str
    paid_by: str
    relay: str
    notices: tuple[str, ...]
    #: "the invoice's", "another" or "none".
    subscription: str
    live_subscriptions: int
    quantity: int
    is_overdue: bool
    #: Each refund, dispute and warning, and the disputed money that is owed again.
    reversals: tuple[str, ...]
    debt: int

    @property
    def has_pending_credit(self) -> bool:
        """Return whether a credit has not been posted yet."""
        return any("owed" in each for each in self.credits)

    @property
    def credit_amounts(self) -> tuple[str, ...]:
        """The credits, with pending ones shown as posted."""
        return tuple(each.replace("owed", "posted") for each in self.credits)

    def differences(self, other: "Outcome") -> list[str]:
        """Return a line for each field with another value."""
        pairs = (
            (each.name, getattr(self, each.name), getattr(other, each.name))
            for each in fields(self)
        )
        return [
            f"{name}: {value!r}, not {other_value!r}"
            for name, value, other_value in pairs
            if value != other_value
        ]


def read_outcome(setup: CaseSetup) -> Outcome:
    """Return the current outcome."""
    store, row, tenant = setup.sandbox.app.store, setup.row, setup.tenant
    invoice = setup.api.v1.invoices.retrieve(setup.invoice_id)
    subscriptions = [
        record for record in store.scan("subscription") if record["status"] in LIVE
    ]
    return Outcome(
        status=str(invoice.status),
        remaining=invoice.amount_remaining,
        by_card=_captured_by_card(setup),
        by_lightning=_received_by_lightning(setup),
        wallets=_states(NwcPayment.objects.filter(stripe_invoice_id=row.pk)),
        cards=_states(CardAttempt.objects.filter(collection=row)),
        settlements=tuple(sorted(map(_settlement, Settlement.objects.all()))),
        credits=tuple(sorted(map(_credit, Credit.objects.all()))),
        state=row.state,
        next_action=row.next_action,
        paid_by=row.paid_by,
        relay=Relay.objects.get(tenant=PUBKEY).status,
        notices=_notices(row),
        subscription=_subscription(setup, tenant.stripe_subscription_id),
        live_subscriptions=len(subscriptions),
        quantity=sum(
            item["quantity"] for record in subscriptions for item in record["_items"]
        ),
        is_overdue=tenant.payment_overdue_since is not None,
        reversals=tuple(sorted(map(_reversal, Reversal.objects.all()))),
        debt=row.dispute_debt_cents,
    )


def _captured_by_card(setup: CaseSetup) -> int:
    intents = setup.sandbox.app.store.scan("payment_intent")
    return sum(
        intent["amount_received"]
        for intent in intents
        if intent["_invoice"] == setup.invoice_id
    )


def _received_by_lightning(setup: CaseSetup) -> int:
    settled = LightningInvoice.objects.of(setup.invoice_id).filter(state="settled")
    return sum(invoice.amount_cents for invoice in settled)


def _states(rows) -> tuple[str, ...]:
    return tuple(sorted(rows.values_list("state", flat=True)))


def _settlement(row: Settlement) -> str:
    return f"{row.state} {row.marked_cents}, surplus {row.surplus_cents}"


def _credit(row: Credit) -> str:
    note, balance = row.note_cents or 0, row.balance_cents or 0
    return f"{row.reason} {row.amount_cents} {row.state}: {note} + {balance}"


def _reversal(row: Reversal) -> str:
    return f"{row.kind} {row.amount_cents} {row.state}"


def _notices(row: InvoiceCollection) -> tuple[str, ...]:
    unsent = Notice.objects.unsent().filter(subject=row.pk)
    return tuple(sorted(unsent.values_list("kind", flat=True)))


def _subscription(setup: CaseSetup, id: str | None) -> str:
    if id is None:
        return "none"
    return "the invoice's" if id == setup.subscription_id else "another"
