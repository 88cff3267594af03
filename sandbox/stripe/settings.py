"""Account settings: those of Stripe's dashboard, and the sandbox's own.

Stored as one record, so restarts and snapshots preserve them.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from sandbox.common.fields import Fields
from sandbox.stripe.store.records import Store

KIND = "_settings"
Outcome = Literal["past_due", "unpaid", "canceled"]
AfterDispute = Literal["nothing", "cancel", "cancel_at_period_end"]
OutOfBandPayments = Literal["unlisted", "payment_record"]
PausedInvoices = Literal["at_once", "after_an_hour"]
CreditUncollectible = Literal["refused", "allowed"]
CanceledProrations = Literal["deleted", "kept"]
CreditNoteTaxes = Literal["proportional", "none"]
TaxRounding = Literal["item", "invoice"]


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """Settings of the account.

    `overdue_after_days` stands for an Automation in Stripe's dashboard: without one
    (None) Stripe sends no `invoice.overdue` event.
    """

    #: Status of a subscription after a failed automatic charge, as there are no
    #: retries, or 30 days after the due date.
    after_last_retry: Outcome = "past_due"
    overdue_after_days: int | None = None
    #: Days until a bank debit, or its refund, succeeds or fails (docs page "ACH Direct
    #: Debit": typically four business days).
    bank_debit_days: int = 4
    #: End of the subscription whose card payment is disputed in full ("Manage disputed
    #: payments" in Stripe's dashboard).
    after_dispute: AfterDispute = "nothing"
    #: Whether a payment out of band is listed among the invoice's payments, with a
    #: payment record: sources disagree.
    out_of_band_payments: OutOfBandPayments = "unlisted"
    #: Whether an uncollectible invoice can have credit notes: sources disagree.
    credit_uncollectible: CreditUncollectible = "refused"
    #: Pending prorations of a subscription that is canceled with neither `prorate` nor
    #: `invoice_now`: sources disagree.
    canceled_prorations: CanceledProrations = "deleted"
    #: When `pause_collection` voids a new invoice or marks it uncollectible: the docs
    #: say "immediately" of `void` only.
    paused_invoices: PausedInvoices = "at_once"
    #: Taxes in a credit note over an amount: no source says whether it is split.
    credit_note_taxes: CreditNoteTaxes = "proportional"
    #: Whether a tax is rounded on each line, or its sum over the invoice.
    tax_rounding: TaxRounding = "item"
    #: Real seconds by which every API response is delayed.
    latency: float = 0
    #: Maximum API requests per real second, above it 429; None: no limit.
    rate_limit: int | None = None
    #: Maximum number of events and of idempotent responses, the newest ones. Stripe has
    #: no such limit; it bounds memory while the clock does not move.
    keep_events: int = 10_000
    keep_answers: int = 10_000


DEFAULTS = AccountSettings()


def read(store: Store) -> AccountSettings:
    """Return the current settings."""
    record = store.get(KIND, KIND)
    return AccountSettings(**record["settings"]) if record else DEFAULTS


def change(store: Store, changes: Mapping[str, Any]) -> AccountSettings:
    """Change some settings and return all. Raises BadField."""
    values = asdict(read(store))
    given = Fields({**values, **changes}, values)
    changed = AccountSettings(
        after_last_retry=given.choice("after_last_retry", get_args(Outcome)),
        overdue_after_days=given.optional(
            given.integer, "overdue_after_days", minimum=1
        ),
        bank_debit_days=given.integer("bank_debit_days", maximum=365),
        after_dispute=given.choice("after_dispute", get_args(AfterDispute)),
        credit_uncollectible=given.choice(
            "credit_uncollectible", get_args(CreditUncollectible)
        ),
        canceled_prorations=given.choice(
            "canceled_prorations", get_args(CanceledProrations)
        ),
        credit_note_taxes=given.choice("credit_note_taxes", get_args(CreditNoteTaxes)),
        tax_rounding=given.choice("tax_rounding", get_args(TaxRounding)),
        out_of_band_payments=given.choice(
            "out_of_band_payments", get_args(OutOfBandPayments)
        ),
        paused_invoices=given.choice("paused_invoices", get_args(PausedInvoices)),
        latency=given.seconds("latency", 0),
        rate_limit=given.optional(given.integer, "rate_limit", minimum=1),
        keep_events=given.integer("keep_events", minimum=1),
        keep_answers=given.integer("keep_answers", minimum=1),
    )
    record = {"id": KIND, "object": KIND, "created": 0, "settings": asdict(changed)}
    store.put(KIND, record)
    return changed
