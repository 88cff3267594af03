"""The sections below the wallets: invoices, prices, the relay, faults."""

from decimal import Decimal
from typing import TYPE_CHECKING

from sandbox.common.html.elements import Child, Html, tag
from sandbox.lightning import price_commands, relay_commands
from sandbox.lightning.pages.parts import (
    choice,
    copyable,
    field,
    form,
    number,
    sats,
    suggestions,
)
from sandbox.lightning.views import invoice_state
from sandbox.nostr.faults import RelayFault
from sandbox.prices.feed import SOURCES
from sandbox.stripe.pages.table import Row, section, table
from sandbox.stripe.pages.text import NOTHING, badge, moment
from sandbox.wallets import Invoice

if TYPE_CHECKING:
    from sandbox.lightning.stack import Lightning

NEWEST = 50
#: The event kinds of NIP-47.
KINDS = {"23194": "requests", "23195": "responses", "13194": "info events"}
SWITCHES = {"false": "no", "true": "yes"}
ANY_SOURCE = {"": "all", **{source: source for source in SOURCES}}


def invoices(lightning: "Lightning") -> Html:
    """Return the section of all wallets' invoices."""
    rows = [_invoice(invoice) for invoice in lightning.wallets.ledger.latest(NEWEST)]
    columns = ("Invoice", "State", "Amount#", "From", "To", "Created", "Paid")
    return section(
        "invoices",
        "Invoices and payments",
        table("Invoices and payments", columns, rows, "No invoices."),
    )


def _invoice(invoice: Invoice) -> Row:
    return Row(
        invoice.payment_hash,
        (
            (
                tag("div", invoice.description or "without a description"),
                copyable("Invoice to pay", invoice.bolt11),
            ),
            badge(invoice_state(invoice)),
            sats(invoice.amount_msat),
            invoice.payer or NOTHING,
            invoice.owner,
            moment(invoice.created_at),
            moment(invoice.settled_at),
        ),
    )


def prices(lightning: "Lightning") -> Html:
    """Return the section of prices, with a column for each source."""
    feed = lightning.prices
    rows = [
        Row(
            f"price-{currency}",
            (currency.upper(), *(_price(feed.price(s, currency)) for s in SOURCES)),
        )
        for currency in feed.currencies
    ]
    columns = ("Currency", *(f"{source}#" for source in SOURCES))
    return section(
        "prices",
        "Price of one bitcoin",
        table("Prices", columns, rows, "No prices."),
        form(
            "prices",
            number("Price", "price", "price", required=True),
            field("Currency", "currency", "currency", "usd", size=4),
            choice("at", "source", "price-source", ANY_SOURCE),
            button="Set",
        ),
        form("prices/reset", button="Reset the prices"),
        wide=False,
    )


def _price(price: Decimal | None) -> Child:
    return NOTHING if price is None else f"{price.normalize():,f}"


def relay(lightning: "Lightning") -> Html:
    """Return the section of the relay."""
    relay, settings = lightning.relay, lightning.relay.settings
    facts = {
        "Address": relay.url,
        "State": "online" if relay.online else "offline",
        "Connections": relay.connections,
        "Subscriptions": relay.subscriptions,
        "Events stored": len(relay.stored()),
        "Held back": relay.held,
        "Honours expiration": "yes" if settings.honours_expiration else "no",
        "Requires authentication": "yes" if settings.requires_auth else "no",
    }
    terms = [(tag("dt", name), tag("dd", value)) for name, value in facts.items()]
    presence = (
        form("relay/offline", button="Go offline")
        if relay.online
        else form("relay/online", button="Go online")
    )
    return section(
        "relay",
        "Relay",
        tag("dl", terms),
        presence,
        form("relay/drop", button="Break all connections"),
        form("relay/release", button="Release held messages"),
        _switch("Honours expiration", "honours_expiration"),
        _switch("Requires authentication", "requires_auth"),
        wide=False,
    )


def _switch(label: str, name: str) -> Html:
    return form("relay/settings", choice(label, name, name, SWITCHES), button="Change")


def faults(lightning: "Lightning") -> Html:
    """Return the section of active faults, with forms to add and clear them."""
    rows = [
        *(_relay_fault(fault) for fault in lightning.relay.faults()),
        *(
            Row(f"price-fault-{source}", (f"{fault.kind}, prices of {source}", NOTHING))
            for source, fault in lightning.prices.faults.items()
        ),
    ]
    clear = form("faults", button="Clear all faults", delete=True)
    return section(
        "faults",
        "Active faults",
        table("Faults", ("Fault", "Times"), rows, "No faults."),
        clear if rows else None,
        _relay_fault_form(),
        _price_fault_form(),
        suggestions("kinds", KINDS),
        wide=False,
    )


def _relay_fault_form() -> Html:
    return form(
        "relay/faults",
        choice("Relay:", "kind", "relay-fault", relay_commands.FAULTS),
        choice("on", "on", "relay-on", relay_commands.PLACES),
        choice("processing", "when", "relay-when", relay_commands.WHENS),
        field("of event kinds", "kinds", "relay-kinds", list="kinds"),
        number("times (empty: until cleared)", "times", "relay-times", 1),
        number("seconds", "seconds", "relay-seconds"),
        button="Add relay fault",
    )


def _price_fault_form() -> Html:
    return form(
        "prices/faults",
        choice("Prices:", "kind", "price-fault", price_commands.FAULTS),
        choice("of", "sources", "fault-source", ANY_SOURCE),
        number("seconds", "seconds", "price-seconds"),
        number("factor", "factor", "price-factor"),
        button="Add price fault",
    )


def _relay_fault(fault: RelayFault) -> Row:
    kinds = ", ".join(map(str, fault.kinds or ())) or "any"
    description = (
        f"{fault.kind}, relay on {fault.on} of kind {kinds}, {fault.when} processing"
    )
    remaining = "until cleared" if fault.times is None else f"{fault.times_left} left"
    return Row(fault.id, (description, remaining))
