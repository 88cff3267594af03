"""What can be done to wallets, and with them as their owner does."""

import re
from typing import TYPE_CHECKING

from sandbox.lightning.behaviours import KINDS
from sandbox.lightning.deed import Answer, Command, Refused
from sandbox.lightning.fields import BadField, Fields
from sandbox.lightning.views import serialize_invoice, serialize_wallet
from sandbox.wallets import Renewal, Terms, Wallet

if TYPE_CHECKING:
    from sandbox.lightning.sandbox import Lightning

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}", re.ASCII)
CODE = re.compile(r"[A-Z][A-Z_]{0,63}", re.ASCII)


def create_wallet(lightning: "Lightning", fields: Fields) -> Answer:
    """Create a wallet with some sats, and perhaps a budget in sats."""
    name = fields.text("name")
    if not NAME.fullmatch(name):
        raise BadField("name is of a-z, 0-9, - and _, 40 characters at most")
    if name in {wallet.name for wallet in lightning.wallets}:
        raise Refused(409, f"there is a wallet {name} already")
    msat = fields.integer("sats", 0) * 1_000
    terms = _terms(fields)
    wallet = lightning.wallets.create(name, balance_msat=msat, terms=terms)
    return serialize_wallet(wallet)


def behave(lightning: "Lightning", fields: Fields, name: str) -> Answer:
    """Let a wallet behave in one of KINDS, with its seconds and code if it has such."""
    wallet = _wallet(lightning, name)
    kind = KINDS[fields.choice("kind", KINDS)]
    seconds = fields.seconds("seconds", kind.seconds)
    code = fields.text("code", kind.code)
    if code and not CODE.fullmatch(code):
        raise BadField("code is an error code of NIP-47, like INTERNAL")
    wallet.behaviour = kind.make(seconds, code)
    return serialize_wallet(wallet)


def go_offline(lightning: "Lightning", fields: Fields, name: str) -> Answer:
    """Let a wallet hear nothing any more."""
    wallet = _wallet(lightning, name)
    wallet.go_offline()
    return serialize_wallet(wallet)


def come_online(lightning: "Lightning", fields: Fields, name: str) -> Answer:
    """Let a wallet hear again, and run what its relay stored meanwhile."""
    wallet = _wallet(lightning, name)
    heeds = fields.flag("heeds_expiration") if "heeds_expiration" in fields else None
    wallet.go_online(heeds_expiration=heeds)
    return serialize_wallet(wallet)


def limit(lightning: "Lightning", fields: Fields, name: str) -> Answer:
    """Give a wallet's connection a budget in sats, or without one take it away."""
    wallet = _wallet(lightning, name)
    terms = _terms(fields)
    wallet.connection.limit(terms.budget_msat, terms.renewal)
    return serialize_wallet(wallet)


def deposit(lightning: "Lightning", fields: Fields, name: str) -> Answer:
    """Give a wallet sats from nowhere."""
    wallet = _wallet(lightning, name)
    wallet.ledger.deposit(name, fields.integer("sats", minimum=1) * 1_000)
    return serialize_wallet(wallet)


def pay(lightning: "Lightning", fields: Fields, name: str) -> Answer:
    """Pay an invoice as the wallet's owner does; its behaviour does not matter."""
    return serialize_invoice(_wallet(lightning, name).pay(fields.text("bolt11")))


def issue(lightning: "Lightning", fields: Fields, name: str) -> Answer:
    """Make an invoice as the wallet's owner does."""
    wallet = _wallet(lightning, name)
    invoice = wallet.issue(
        fields.integer("sats", minimum=1) * 1_000,
        expiry=fields.integer("expiry", 3_600, minimum=1),
        description=fields.text("description", ""),
    )
    return serialize_invoice(invoice)


def _wallet(lightning: "Lightning", name: str) -> Wallet:
    try:
        return lightning.wallets[name]
    except KeyError:
        raise Refused(404, f"there is no wallet {name}") from None


def _terms(fields: Fields) -> Terms:
    renewal = Renewal(fields.choice("renewal", list(Renewal), Renewal.NEVER))
    if "budget" not in fields:
        return Terms()
    return Terms(budget_msat=fields.integer("budget") * 1_000, renewal=renewal)


ONE = r"wallets/([\w-]+)"
COMMANDS = {
    ("POST", "wallets"): Command(
        create_wallet, ("name", "sats", "budget", "renewal"), "The wallet is there."
    ),
    ("POST", f"{ONE}/behaviour"): Command(
        behave, ("kind", "seconds", "code"), "The wallet behaves so from now on."
    ),
    ("POST", f"{ONE}/offline"): Command(go_offline, (), "The wallet is offline."),
    ("POST", f"{ONE}/online"): Command(
        come_online, ("heeds_expiration",), "The wallet is back."
    ),
    ("POST", f"{ONE}/budget"): Command(
        limit, ("budget", "renewal"), "The wallet's budget is changed."
    ),
    ("POST", f"{ONE}/deposit"): Command(deposit, ("sats",), "The sats are there."),
    ("POST", f"{ONE}/pay"): Command(pay, ("bolt11",), "It is paid."),
    ("POST", f"{ONE}/invoices"): Command(
        issue, ("sats", "expiry", "description"), "The invoice is below."
    ),
}
