"""The parts of Stripe's objects that Caravel uses.

Amounts are in the currency's minor unit; times are Unix seconds, None if not set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any


@dataclass(frozen=True)
class Customer:
    """A customer, possibly a deleted one. `default_card` is "" if none is set."""

    id: str
    email: str
    metadata: Mapping[str, str]
    deleted: bool = False
    default_card: str = ""
    name: str = ""


@dataclass(frozen=True)
class Card:
    """A payment method: a card, or a bank account for debits.

    `fingerprint` identifies its number and `expires` is like "2027-03": both change if
    the network replaces a card in place. "" if Stripe names none.
    """

    id: str
    created: int
    type: str = "card"
    customer: str = ""
    fingerprint: str = ""
    expires: str = ""


@dataclass(frozen=True)
class TaxRate:
    """A tax rate; an `inclusive` one is part of the price."""

    id: str
    percentage: str
    inclusive: bool


@dataclass(frozen=True)
class Price:
    """A price. It is `active` if neither it nor its product is archived.

    `interval` is "" for a price that does not recur every day, week, month or year.
    """

    id: str
    active: bool
    currency: str
    unit_amount: int | None
    interval: str


@dataclass(frozen=True)
class Item:
    id: str
    price: str
    quantity: int | None


@dataclass(frozen=True)
class Subscription:
    """A subscription. Until it is canceled, `cancel_reason` is "".

    With a scheduled cancellation `canceled_at` is earlier than `ended_at`.
    `pause_behavior` is that of `pause_collection`, "" without a pause; `paused_at` is
    set while the status is `paused`. `item_terms` are the discounts and tax rates of
    its items.
    """

    id: str
    customer: str
    status: str
    created: int
    collection_method: str
    items: tuple[Item, ...]
    metadata: Mapping[str, str]
    cancel_reason: str
    canceled_at: int | None = None
    latest_invoice: str = ""
    ended_at: int | None = None
    pause_behavior: str = ""
    pause_resumes_at: int | None = None
    paused_at: int | None = None
    discounts: tuple[str, ...] = ()
    default_tax_rates: tuple[TaxRate, ...] = ()
    item_terms: tuple[str, ...] = ()


@dataclass(frozen=True)
class Discount:
    """A redeemed coupon. `end` is None if it goes on forever, or for one invoice."""

    id: str
    coupon: str
    end: int | None


@dataclass(frozen=True)
class Coupon:
    """A coupon; `terms` are the parameters that give the same discount."""

    id: str
    duration: str
    valid: bool
    metadata: Mapping[str, str]
    terms: Mapping[str, Any]


@dataclass(frozen=True)
class Line:
    """A line of an invoice, or an item pending for the next one.

    `discount` is not in the amount yet, nor is `tax`, the exclusive taxes. `item` is
    the id of its invoice item, "" if it has none.
    """

    id: str
    amount: int
    price: str
    quantity: int
    period_start: int
    period_end: int
    proration: bool
    description: str = ""
    discount: int = 0
    tax: int = 0
    item: str = ""

    @property
    def cost(self) -> int:
        """What the line costs: its amount after discounts, with taxes."""
        return self.amount - self.discount + self.tax


@dataclass(frozen=True)
class PaymentIntent:
    """A PaymentIntent; `card` is the payment method that was tried last."""

    id: str
    status: str
    card: str
    error_code: str
    decline_code: str


@dataclass(frozen=True)
class Invoice:
    """An invoice. `lines` has the first ten; `has_more_lines` says if there are more.

    `subscription` and `tenant_pubkey` (from the subscription's metadata) are "" for an
    invoice without one. Only a retrieved invoice has `paid_off_stripe`, else 0, and
    `intents`, else None: the PaymentIntents of its payments. `credited` is the sum of
    its credit notes, and `credited_after_payment` the part of them that was given back.
    `auto_advance` is None if Stripe does not say.
    """

    id: str
    status: str
    customer: str
    subscription: str
    tenant_pubkey: str
    billing_reason: str
    collection_method: str
    auto_advance: bool | None
    currency: str
    number: str
    hosted_url: str
    total: int
    amount_due: int
    amount_paid: int
    amount_remaining: int
    credited: int
    paid_off_stripe: int
    created: int
    due_at: int | None
    finalized_at: int | None
    lines: tuple[Line, ...]
    metadata: Mapping[str, str]
    paid_at: int | None = None
    has_more_lines: bool = False
    finalizes_at: int | None = None
    finalization_error: str = ""
    webhooks_delivered_at: int | None = None
    written_off_at: int | None = None
    written_off_reason: str = ""
    intents: tuple[PaymentIntent, ...] | None = None
    credited_after_payment: int = 0


@dataclass(frozen=True)
class InvoicePayment:
    """A payment of an invoice; `intent` is "" if it was made outside Stripe.

    `amount_paid` is 0 until it is paid.
    """

    id: str
    status: str
    intent: str
    amount_paid: int


@dataclass(frozen=True)
class CreditNote:
    """A credit note; `refunds` are the ids of the refunds that it includes."""

    id: str
    amount: int
    status: str
    metadata: Mapping[str, str]
    refunds: tuple[str, ...] = ()


@dataclass(frozen=True)
class BalanceTransaction:
    """A change of a customer's balance; a negative amount is credit."""

    id: str
    amount: int
    metadata: Mapping[str, str]


def read_customer(found: Any) -> Customer:
    return Customer(
        id=found.id,
        email=_text(found, "email"),
        metadata=read_metadata(found),
        deleted=bool(_field(found, "deleted")),
        default_card=_id(_field(found, "invoice_settings", "default_payment_method")),
        name=_text(found, "name"),
    )


def read_card(found: Any) -> Card:
    details = _field(found, found.type)
    year, month = _field(details, "exp_year"), _field(details, "exp_month")
    return Card(
        id=found.id,
        created=found.created,
        type=found.type,
        customer=_id(_field(found, "customer")),
        fingerprint=_text(details, "fingerprint"),
        expires=f"{year}-{month:02}" if year and month else "",
    )


def read_price(found: Any) -> Price:
    """Return a price whose product is expanded."""
    is_single = _field(found, "recurring", "interval_count") == 1
    return Price(
        id=found.id,
        active=bool(found.active and _field(found, "product", "active")),
        currency=found.currency,
        unit_amount=_field(found, "unit_amount"),
        interval=_text(found, "recurring", "interval") if is_single else "",
    )


def read_subscription(found: Any) -> Subscription:
    items = tuple(
        Item(item.id, item.price.id, _field(item, "quantity"))
        for item in found.items.data
    )
    return Subscription(
        id=found.id,
        customer=_id(found.customer),
        status=found.status,
        created=found.created,
        collection_method=found.collection_method,
        items=items,
        metadata=read_metadata(found),
        cancel_reason=_text(found, "cancellation_details", "reason"),
        canceled_at=_field(found, "canceled_at"),
        latest_invoice=_id(_field(found, "latest_invoice")),
        ended_at=_field(found, "ended_at"),
        pause_behavior=_text(found, "pause_collection", "behavior"),
        pause_resumes_at=_field(found, "pause_collection", "resumes_at"),
        paused_at=_field(found, "status_details", "paused", "transitioned_at"),
        discounts=tuple(map(_id, _field(found, "discounts") or ())),
        default_tax_rates=read_tax_rates(_field(found, "default_tax_rates")),
        item_terms=tuple(
            _id(term)
            for item in found.items.data
            for name in ("discounts", "tax_rates")
            for term in _field(item, name) or ()
        ),
    )


def read_discounts(found: Any) -> list[Discount]:
    """Return the discounts of a subscription; they have to be expanded."""
    return [
        Discount(each.id, _id(_field(each, "source", "coupon")), _field(each, "end"))
        for each in found.discounts
    ]


def read_coupon(found: Any) -> Coupon:
    """Return a coupon; what it applies to has to be expanded."""
    terms = {name: _field(found, name) for name in ("amount_off", "currency", "name")}
    percent = _field(found, "percent_off")
    terms["percent_off"] = None if percent is None else float(percent)
    products = _field(found, "applies_to", "products")
    terms["applies_to"] = {"products": list(products)} if products else None
    return Coupon(
        id=found.id,
        duration=found.duration,
        valid=found.valid,
        metadata=read_metadata(found),
        terms={name: value for name, value in terms.items() if value is not None},
    )


def read_invoice(found: Any) -> Invoice:
    parent = _field(found, "parent", "subscription_details")
    return Invoice(
        id=found.id,
        status=_text(found, "status"),
        customer=_id(_field(found, "customer")),
        subscription=_id(_field(parent, "subscription")),
        tenant_pubkey=read_metadata(parent).get("tenant_pubkey", ""),
        billing_reason=_text(found, "billing_reason"),
        collection_method=found.collection_method,
        auto_advance=_field(found, "auto_advance"),
        currency=found.currency,
        number=_text(found, "number"),
        hosted_url=_text(found, "hosted_invoice_url"),
        total=found.total,
        amount_due=found.amount_due,
        amount_paid=found.amount_paid,
        amount_remaining=found.amount_remaining,
        credited=found.pre_payment_credit_notes_amount
        + found.post_payment_credit_notes_amount,
        paid_off_stripe=_field(found, "amount_paid_off_stripe") or 0,
        created=found.created,
        due_at=_field(found, "due_date"),
        finalized_at=_field(found, "status_transitions", "finalized_at"),
        lines=tuple(map(read_line, found.lines.data)),
        metadata=read_metadata(found),
        paid_at=_field(found, "status_transitions", "paid_at"),
        has_more_lines=bool(found.lines.has_more),
        finalizes_at=_field(found, "automatically_finalizes_at"),
        finalization_error=_error_code(_field(found, "last_finalization_error")),
        webhooks_delivered_at=_field(found, "webhooks_delivered_at"),
        written_off_at=_field(found, "status_transitions", "marked_uncollectible_at"),
        written_off_reason=_text(found, "status_details", "uncollectible", "reason"),
        intents=_intents(_field(found, "payments", "data")),
        credited_after_payment=found.post_payment_credit_notes_amount,
    )


def _intents(payments: Any) -> tuple[PaymentIntent, ...] | None:
    """Return the expanded PaymentIntents of payments; None if they are not expanded."""
    if payments is None:
        return None
    found = [_field(each, "payment", "payment_intent") for each in payments]
    return tuple(read_payment_intent(each) for each in found if _field(each, "status"))


def read_line(found: Any) -> Line:
    """Return a line of an invoice, with its discounts and exclusive taxes."""
    details = _field(found, "parent", "subscription_item_details")
    item_details = details or _field(found, "parent", "invoice_item_details")
    taxes = _field(found, "taxes") or ()
    return _line(
        found,
        proration=bool(_field(details, "proration")),
        discount=sum(each.amount for each in _field(found, "discount_amounts") or ()),
        tax=sum(tax.amount for tax in taxes if tax.tax_behavior == "exclusive"),
        item=_id(_field(item_details, "invoice_item")),
    )


def read_pending_item(
    found: Any, default_tax_rates: Sequence[TaxRate] = ()
) -> tuple[str, Line]:
    """Return the subscription that an item is pending for, "" if none, and its line.

    A pending item has no taxes yet: its line has those that it would be billed with.
    """
    subscription = _field(found, "parent", "subscription_details", "subscription")
    rates = read_tax_rates(_field(found, "tax_rates")) or default_tax_rates
    tax = _exclusive_tax(found.amount, rates)
    line = _line(found, proration=found.proration, tax=tax, item=found.id)
    return _id(subscription), line


def read_tax_rates(found: Any) -> tuple[TaxRate, ...]:
    """Return the tax rates in a list, none if Stripe left it out."""
    return tuple(
        TaxRate(each.id, str(each.percentage), each.inclusive) for each in found or ()
    )


def read_invoice_payment(found: Any) -> InvoicePayment:
    return InvoicePayment(
        id=found.id,
        status=found.status,
        intent=_id(_field(found.payment, "payment_intent")),
        amount_paid=_field(found, "amount_paid") or 0,
    )


def read_payment_intent(found: Any) -> PaymentIntent:
    tried = _field(found, "last_payment_error", "payment_method")
    return PaymentIntent(
        id=found.id,
        status=found.status,
        card=_id(_field(found, "payment_method")) or _id(tried),
        error_code=_text(found, "last_payment_error", "code"),
        decline_code=_text(found, "last_payment_error", "decline_code"),
    )


def read_credit_note(found: Any) -> CreditNote:
    included = _field(found, "refunds") or ()
    return CreditNote(
        id=found.id,
        amount=found.amount,
        status=found.status,
        metadata=read_metadata(found),
        refunds=tuple(_id(_field(each, "refund")) for each in included),
    )


def read_balance_transaction(found: Any) -> BalanceTransaction:
    return BalanceTransaction(found.id, found.amount, read_metadata(found))


def read_text(found: Any, name: str) -> str:
    """Return a required text field. Raises AttributeError or TypeError without it."""
    value = getattr(found, name)
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value!r}")
    return value


def read_metadata(found: Any) -> dict[str, str]:
    """Return the metadata of an object, empty if it has none."""
    metadata = _field(found, "metadata")
    return metadata.to_dict() if metadata else {}


def _line(
    found: Any, *, proration: bool, discount: int = 0, tax: int = 0, item: str = ""
) -> Line:
    return Line(
        id=found.id,
        amount=found.amount,
        price=_id(_field(found, "pricing", "price_details", "price")),
        quantity=_field(found, "quantity") or 0,
        period_start=found.period.start,
        period_end=found.period.end,
        proration=proration,
        description=_text(found, "description"),
        discount=discount,
        tax=tax,
        item=item,
    )


def _exclusive_tax(amount: int, rates: Sequence[TaxRate]) -> int:
    """Return the taxes that are added to an amount, each rounded by itself."""
    inclusive = [_percentage(rate) for rate in rates if rate.inclusive]
    net = amount / (1 + sum(inclusive, Fraction()))
    exclusive = [_percentage(rate) for rate in rates if not rate.inclusive]
    return sum(_round_half_away(net * percentage) for percentage in exclusive)


def _round_half_away(amount: Fraction) -> int:
    rounded = int(abs(amount) + Fraction(1, 2))
    return rounded if amount > 0 else -rounded


def _percentage(rate: TaxRate) -> Fraction:
    return Fraction(rate.percentage) / 100


def _field(found: Any, *names: str) -> Any:
    """Return a nested field; None if Stripe left it or its parents out, or sent null.

    For optional fields only: without a required one the answer is unreadable.
    """
    for name in names:
        found = getattr(found, name, None)
    return found


def _error_code(error: Any) -> str:
    """Return the code of an error, or its type: a code is optional. "" for None."""
    return "" if error is None else _text(error, "code") or _text(error, "type")


def _text(found: Any, *names: str) -> str:
    return _field(found, *names) or ""


def _id(reference: Any) -> str:
    """Return the id of a reference, expanded or not; "" for None."""
    return str(getattr(reference, "id", reference) or "")
