"""Commands for wallets, including what their owners do by hand."""

import re
from typing import Any

from sandbox.common.control import Command, Commands, Refused
from sandbox.common.fields import BadField, Fields
from sandbox.lightning.behaviours import KINDS
from sandbox.lightning.stack import Lightning
from sandbox.lightning.views import find_wallet, serialize_invoice, serialize_wallet
from sandbox.wallets import Renewal, Terms

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}", re.ASCII)
CODE = re.compile(r"[A-Z][A-Z_]{0,63}", re.ASCII)


def create_wallet(lightning: Lightning, fields: Fields) -> Any:
    """Create a wallet with sats, and optionally a budget in sats."""
    name = fields.text("name")
    if not NAME.fullmatch(name):
        raise BadField("name must be up to 40 characters of a-z, 0-9, - and _")
    if name in {wallet.name for wallet in lightning.wallets}:
        raise Refused(409, f"wallet {name} already exists")
    msat = fields.integer("sats", 0) * 1_000
    terms = _terms(fields)
    wallet = lightning.wallets.create(name, balance_msat=msat, terms=terms)
    return serialize_wallet(wallet)


def behave(lightning: Lightning, fields: Fields, name: str) -> Any:
    """Set a wallet's behaviour to one of KINDS, with its seconds and code."""
    wallet = find_wallet(lightning, name)
    kind = KINDS[fields.choice("kind", KINDS)]
    seconds = fields.seconds("seconds", kind.seconds)
    code = fields.text("code", kind.code)
    if code and not CODE.fullmatch(code):
        raise BadField("code must be a NIP-47 error code such as INTERNAL")
    wallet.behaviour = kind.make(seconds, code)
    return serialize_wallet(wallet)


def go_offline(lightning: Lightning, fields: Fields, name: str) -> Any:
    """Stop a wallet from receiving requests."""
    wallet = find_wallet(lightning, name)
    wallet.go_offline()
    return serialize_wallet(wallet)


def come_online(lightning: Lightning, fields: Fields, name: str) -> Any:
    """Let a wallet receive again, and run the requests that its relay stored."""
    wallet = find_wallet(lightning, name)
    heeds_expiration = fields.optional(fields.flag, "heeds_expiration")
    wallet.go_online(heeds_expiration=heeds_expiration)
    return serialize_wallet(wallet)


def limit(lightning: Lightning, fields: Fields, name: str) -> Any:
    """Set the budget of a wallet's connection in sats; without one, remove it."""
    wallet = find_wallet(lightning, name)
    terms = _terms(fields)
    wallet.connection.limit(terms.budget_msat, terms.renewal)
    return serialize_wallet(wallet)


def deposit(lightning: Lightning, fields: Fields, name: str) -> Any:
    """Add sats to a wallet's balance."""
    wallet = find_wallet(lightning, name)
    wallet.ledger.deposit(name, fields.integer("sats", minimum=1) * 1_000)
    return serialize_wallet(wallet)


def pay(lightning: Lightning, fields: Fields, name: str) -> Any:
    """Pay an invoice by hand; the wallet's behaviour does not matter."""
    return serialize_invoice(find_wallet(lightning, name).pay(fields.text("bolt11")))


def issue(lightning: Lightning, fields: Fields, name: str) -> Any:
    """Create an invoice by hand."""
    wallet = find_wallet(lightning, name)
    invoice = wallet.issue(
        fields.integer("sats", minimum=1) * 1_000,
        expiry=fields.integer("expiry", 3_600, minimum=1),
        description=fields.text("description", ""),
    )
    return serialize_invoice(invoice)


def _terms(fields: Fields) -> Terms:
    renewal = Renewal(fields.choice("renewal", list(Renewal), Renewal.NEVER))
    if "budget" not in fields:
        return Terms()
    return Terms(budget_msat=fields.integer("budget") * 1_000, renewal=renewal)


WALLET = r"wallets/([\w-]+)"
COMMANDS: Commands = {
    ("POST", "wallets"): Command(
        create_wallet, ("name", "sats", "budget", "renewal"), "The wallet is created."
    ),
    ("POST", f"{WALLET}/behaviour"): Command(
        behave, ("kind", "seconds", "code"), "The wallet's behaviour is changed."
    ),
    ("POST", f"{WALLET}/offline"): Command(go_offline, (), "The wallet is offline."),
    ("POST", f"{WALLET}/online"): Command(
        come_online, ("heeds_expiration",), "The wallet is online."
    ),
    ("POST", f"{WALLET}/budget"): Command(
        limit, ("budget", "renewal"), "The wallet's budget is changed."
    ),
    ("POST", f"{WALLET}/deposit"): Command(deposit, ("sats",), "The sats are added."),
    ("POST", f"{WALLET}/pay"): Command(pay, ("bolt11",), "The invoice is paid."),
    ("POST", f"{WALLET}/invoices"): Command(
        issue, ("sats", "expiry", "description"), "The invoice is created, see below."
    ),
}
