"""What is so after an event, here and at Stripe."""

from dataclasses import dataclass, fields

from billing.models import CardAttempt, Credit, InvoiceCollection, Settlement
from billing.services.subscriptions.diff import LIVE
from billing.tests.support.event_matrix.arrange import PUBKEY, Stage
from lightning.models import LightningInvoice, NwcPayment
from relays.models import Relay
from tenants.models import Notice


@dataclass(frozen=True)
class Facts:
    """All of one invoice and its tenant that an event may change; cents throughout."""

    status: str
    remaining: int
    #: What cards paid, and what Lightning did.
    by_card: int
    by_lightning: int
    #: How each attempt ended, or that it has not.
    wallets: tuple[str, ...]
    cards: tuple[str, ...]
    settlements: tuple[str, ...]
    credits: tuple[str, ...]
    state: str
    next_action: str
    paid_by: str
    relay: str
    notices: tuple[str, ...]
    #: current, another, or none; and how many bill.
    subscription: str
    live: int
    quantity: int
    in_debt: bool

    @property
    def waits(self) -> bool:
        """Whether a credit is owed that is not posted yet."""
        return any("owed" in each for each in self.credits)

    @property
    def sums(self) -> tuple[str, ...]:
        """The credits, be they posted or owed."""
        return tuple(each.replace("owed", "posted") for each in self.credits)

    def differences(self, other: "Facts") -> list[str]:
        """Return in words what is not as in the other."""
        pairs = (
            (each.name, getattr(self, each.name), getattr(other, each.name))
            for each in fields(self)
        )
        return [
            f"{name}: {one!r}, not {two!r}" for name, one, two in pairs if one != two
        ]


def read(stage: Stage) -> Facts:
    """Return what is so now."""
    store, row, tenant = stage.sandbox.app.store, stage.row, stage.tenant
    invoice = stage.api.v1.invoices.retrieve(stage.invoice_id)
    subscriptions = [one for one in store.scan("subscription") if one["status"] in LIVE]
    return Facts(
        status=str(invoice.status),
        remaining=invoice.amount_remaining,
        by_card=_captured(stage),
        by_lightning=_arrived(stage),
        wallets=_states(NwcPayment.objects.filter(stripe_invoice_id=row.pk)),
        cards=_states(CardAttempt.objects.filter(collection=row)),
        settlements=tuple(sorted(map(_settlement, Settlement.objects.all()))),
        credits=tuple(sorted(map(_credit, Credit.objects.all()))),
        state=row.state,
        next_action=row.next_action,
        paid_by=row.paid_by,
        relay=Relay.objects.get(tenant=PUBKEY).status,
        notices=_notices(row),
        subscription=_subscription(stage, tenant.stripe_subscription_id),
        live=len(subscriptions),
        quantity=sum(
            item.quantity or 0
            for one in subscriptions
            for item in stage.api.v1.subscription_items.list(
                {"subscription": one["id"]}
            ).data
        ),
        in_debt=tenant.payment_overdue_since is not None,
    )


def _captured(stage: Stage) -> int:
    intents = stage.sandbox.app.store.scan("payment_intent")
    of_it = (one for one in intents if one["_invoice"] == stage.invoice_id)
    return sum(one["amount_received"] for one in of_it)


def _arrived(stage: Stage) -> int:
    settled = LightningInvoice.objects.of(stage.invoice_id).filter(state="settled")
    return sum(one.amount_cents for one in settled)


def _states(rows) -> tuple[str, ...]:
    return tuple(sorted(rows.values_list("state", flat=True)))


def _settlement(row: Settlement) -> str:
    return f"{row.state} {row.marked_cents}, surplus {row.surplus_cents}"


def _credit(row: Credit) -> str:
    note, balance = row.note_cents or 0, row.balance_cents or 0
    return f"{row.reason} {row.amount_cents} {row.state}: {note} + {balance}"


def _notices(row: InvoiceCollection) -> tuple[str, ...]:
    unsent = Notice.objects.unsent().filter(subject=row.pk)
    return tuple(sorted(unsent.values_list("kind", flat=True)))


def _subscription(stage: Stage, id: str | None) -> str:
    if id is None:
        return "none"
    return "the invoice's" if id == stage.subscription_id else "another"
