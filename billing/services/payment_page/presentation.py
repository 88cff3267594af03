"""Headlines and formatted values of the payment page, and its etag."""

import hashlib
from dataclasses import astuple, dataclass
from math import ceil

from django.conf import settings

from billing.money import format_amount, format_price
from billing.services.payment_page.open_invoices import total
from billing.services.payment_page.page import (
    CardOption,
    PageState,
    PaymentPage,
    WaitingFor,
)
from caravel.nostr import short_npub

_HEADLINES = {
    PageState.DRAFT: "This invoice is still a draft",
    PageState.OPEN: "Pay this invoice",
    PageState.OVERDUE: "This invoice is overdue",
    PageState.WRITTEN_OFF: "This invoice was written off",
    PageState.WAITING: "One moment",
    PageState.OFFERED: "Pay with your Lightning wallet",
    PageState.WALLET_DOWN: "Pay with your Lightning wallet",
    PageState.OFFER_EXPIRED: "The Lightning invoice has expired",
    PageState.PAID: "Paid. Thank you!",
    PageState.DISPUTED: "This payment was disputed",
    PageState.VOID: "This invoice is void",
}
_WAITING_HEADLINES = {
    WaitingFor.BANK: "A bank payment is in progress",
    WaitingFor.CHALLENGE: "Waiting for your confirmation",
    WaitingFor.WALLET: "Waiting for your wallet",
    WaitingFor.SUPPORT: "We look into your payment",
    WaitingFor.CARD: "Waiting for your card",
}


@dataclass(frozen=True)
class Presentation:
    """Texts of the page. `sats`, `bolt11_amount` and `bitcoin_price` are of its bolt11.

    `screen_reader_text` announces a change of the page. `tone` is a CSS class.
    `lightning_delay` is how long a new bolt11 keeps us from charging. `others_total`
    is the sum of the tenant's other open invoices.
    """

    number: str
    amount: str
    headline: str
    screen_reader_text: str
    tone: str
    tenant: str
    short_npub: str
    lightning_delay: str
    others_total: str
    sats: str = ""
    bolt11_amount: str = ""
    bitcoin_price: str = ""


def present(page: PaymentPage) -> Presentation:
    """Return the texts of a page. Raises UnknownCurrency."""
    invoice, bolt11 = page.invoice, page.bolt11
    texts: dict[str, str] = {}
    if bolt11:
        # Our bolt11s are for whole sats. The invoice's amount may have changed since.
        texts = {
            "sats": f"{bolt11.amount_msat // 1000:,}",
            "bolt11_amount": format_amount(bolt11.amount_cents, bolt11.currency),
            "bitcoin_price": format_price(bolt11.rate, bolt11.currency),
        }
    return Presentation(
        number=invoice.number or invoice.pk,
        amount=format_amount(page.amount_cents, invoice.currency),
        headline=_headline(page),
        screen_reader_text=_screen_reader_text(page),
        tone=_tone(page),
        tenant=str(invoice.tenant),
        short_npub=short_npub(invoice.tenant_id),
        lightning_delay=_format_duration(
            settings.LIGHTNING_EXPIRY + settings.LIGHTNING_MARGIN
        ),
        others_total=total(page.others),
        **texts,
    )


def _headline(page: PaymentPage) -> str:
    if page.is_settled_without_money:
        has_amount = page.invoice.total_cents > 0
        return "Covered by credit" if has_amount else "There is nothing to pay"
    waiting = _WAITING_HEADLINES.get(page.waiting_for) if page.waiting_for else None
    return waiting or _HEADLINES[page.state]


def _screen_reader_text(page: PaymentPage) -> str:
    if page.is_wallet_down:
        return "We cannot reach our wallet right now."
    if page.state == PageState.OFFER_EXPIRED and not page.reissue_at:
        return "You can now get a new Lightning invoice."
    return _headline(page)


def _format_duration(seconds: int) -> str:
    """Format a duration, rounded up to minutes: `2 hours 45 minutes`."""
    hours, minutes = divmod(ceil(seconds / 60), 60)
    parts = [(hours, "hour"), (minutes, "minute")]
    return " ".join(f"{n} {unit}{'s' * (n > 1)}" for n, unit in parts if n)


def _tone(page: PaymentPage) -> str:
    if page.state == PageState.PAID:
        return "good"
    quiet = {PageState.VOID, PageState.DRAFT, PageState.DISPUTED}
    if page.state in quiet or page.is_written_off:
        return "quiet"
    return "bad" if page.is_overdue else "plain"


def etag(page: PaymentPage) -> str:
    """Return a hash of everything on the page that comes from our own rows.

    Lines, quote and receipt are left out: the status endpoint must not call Stripe.
    `is_final` as well: it changes no text, so the script need not fetch the page.
    """
    invoice, attempt = page.invoice, page.card_attempt
    content = (
        *astuple(present(page)),
        page.state,
        page.paid_by,
        page.waiting_for,
        page.blocker,
        page.blocked_until,
        page.reissue_at,
        page.lightning,
        page.bolt11 and page.bolt11.pk,
        page.is_overdue,
        page.is_written_off,
        page.is_disputed,
        page.others,
        page.card_option,
        attempt and (attempt.pk, attempt.state),
        page.is_payable and (invoice.suspend_at, page.keeps_relays_on),
        page.card_option == CardOption.HOSTED and invoice.hosted_invoice_url,
        (invoice.period_start, invoice.period_end, invoice.finalized_at),
    )
    return hashlib.sha256(repr(content).encode()).hexdigest()[:16]
