"""The section of wallets: balance and behaviour, with forms that change them."""

from typing import TYPE_CHECKING

from sandbox.common.html.elements import Child, Html, tag
from sandbox.lightning.behaviours import KINDS, describe
from sandbox.lightning.default_wallets import PLATFORM
from sandbox.lightning.pages.parts import (
    choice,
    copyable,
    field,
    form,
    number,
    sats,
    suggestions,
)
from sandbox.stripe.pages.table import Row, section, table
from sandbox.stripe.pages.text import NOTHING, moment
from sandbox.wallets import Renewal, Wallet

if TYPE_CHECKING:
    from sandbox.lightning.stack import Lightning

COLUMNS = ("Wallet", "Balance#", "Budget", "On a payment", "Last request")
CODES = {
    "INSUFFICIENT_BALANCE": "a refusal",
    "QUOTA_EXCEEDED": "a refusal",
    "RATE_LIMITED": "a temporary refusal",
    "UNAUTHORIZED": "a permanent refusal",
    "PAYMENT_FAILED": "the outcome is unknown",
    "INTERNAL": "the outcome is unknown",
}
#: The default of a form comes first.
RENEWALS = sorted(Renewal, key=lambda renewal: renewal is not Renewal.NEVER)
#: The number of requests shown per wallet.
NEWEST = 10


def wallets(lightning: "Lightning") -> Html:
    """Return the section of wallets."""
    rows = [_row(wallet) for wallet in lightning.wallets]
    new = form(
        "wallets",
        field("Name", "name", "new-name", required=True, pattern="[a-z0-9][a-z0-9_-]*"),
        number("Sats", "sats", "new-sats", 1_000_000),
        number("Budget in sats", "budget", "new-budget"),
        choice("renewed", "renewal", "new-renewal", RENEWALS),
        button="Add a wallet",
        id="new-wallet",
    )
    return section(
        "wallets",
        "Wallets",
        table("Wallets", COLUMNS, rows, "No wallets."),
        new,
        suggestions("codes", CODES),
    )


def _row(wallet: Wallet) -> Row:
    requests = wallet.requests()
    note = " Caravel's: issues the invoices" if wallet.name == PLATFORM else None
    offline = tag("span", "offline", class_="badge warn")
    return Row(
        f"wallet-{wallet.name}",
        (
            (
                tag(
                    "div", tag("strong", wallet.name), tag("span", note, class_="soft")
                ),
                copyable(f"Address of {wallet.name}", wallet.url),
            ),
            sats(wallet.balance_msat),
            _budget(wallet),
            (None if wallet.is_listening else offline, describe(wallet.behaviour)),
            (tag("div", requests[-1].method), moment(requests[-1].received_at))
            if requests
            else NOTHING,
        ),
        summary=tag("span", f"Pay from {wallet.name}, add sats, change its behaviour…"),
        details=_forms(wallet),
    )


def _budget(wallet: Wallet) -> Child:
    terms = wallet.connection.terms
    if terms.budget_msat is None:
        return NOTHING
    spent = wallet.ledger.spent(wallet.name, wallet.connection.spender)
    period = "" if terms.renewal is Renewal.NEVER else f", {terms.renewal}"
    return f"{sats(spent)} of {sats(terms.budget_msat)}{period}"


def _forms(wallet: Wallet) -> Child:
    name = wallet.name
    path = f"wallets/{name}"
    kinds = {word: kind.description for word, kind in KINDS.items()}
    return (
        form(
            f"{path}/behaviour",
            choice("On a payment it", "kind", f"{name}-kind", kinds),
            number("Seconds", "seconds", f"{name}-seconds"),
            field("Code", "code", f"{name}-code", list="codes"),
            button="Change behaviour",
        ),
        _presence(wallet),
        form(
            f"{path}/pay",
            field("Invoice", "bolt11", f"{name}-bolt11", required=True, class_="long"),
            button="Pay by hand",
        ),
        form(
            f"{path}/invoices",
            number("Sats", "sats", f"{name}-invoice-sats", 1_000, required=True),
            field("For", "description", f"{name}-description"),
            button="Create an invoice",
        ),
        form(
            f"{path}/deposit",
            number("Sats", "sats", f"{name}-deposit-sats", 100_000, required=True),
            button="Add sats",
        ),
        form(
            f"{path}/budget",
            number("Budget in sats (empty: none)", "budget", f"{name}-budget"),
            choice("renewed", "renewal", f"{name}-renewal", RENEWALS),
            button="Set the budget",
        ),
        _requests(wallet),
    )


def _presence(wallet: Wallet) -> Html:
    if wallet.is_listening:
        return form(f"wallets/{wallet.name}/offline", button="Go offline")
    return form(f"wallets/{wallet.name}/online", button="Go online")


def _requests(wallet: Wallet) -> Html:
    # Newest first.
    newest = wallet.requests()[: -NEWEST - 1 : -1]
    lines = [
        tag("li", tag("span", request.method), moment(request.received_at))
        for request in newest
    ]
    empty = tag("p", "No requests yet.", class_="empty")
    return tag("ul", lines, class_="lines") if lines else empty
