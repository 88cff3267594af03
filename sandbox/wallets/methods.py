"""The methods of NIP-47 except `pay_invoice`."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from sandbox.common.fields import Fields
from sandbox.wallets.bolt11 import make_preimage
from sandbox.wallets.connections import Connection, period_of
from sandbox.wallets.keys import node_pubkey
from sandbox.wallets.ledger import Invoice
from sandbox.wallets.messages import Refused, Request
from sandbox.wallets.wallet import EXPIRY, NOTIFICATIONS, Wallet

Result = dict[str, Any]
#: Transactions in a response, as in Alby Hub's.
MAX_LISTED = 50


@dataclass(frozen=True)
class Call:
    """A request of a client that may make it."""

    wallet: Wallet
    connection: Connection
    request: Request

    @property
    def params(self) -> Fields:
        """The parameters; their methods raise BadField. Unknown ones are ignored."""
        return Fields(self.request.params, self.request.params)


def get_info(call: Call) -> Result:
    """Return the wallet's properties and the methods that this client may call."""
    wallet = call.wallet
    return {
        "alias": wallet.name,
        "color": "#3399ff",
        "pubkey": node_pubkey(wallet.keys),
        "network": str(wallet.protocol.network),
        "block_height": 1,
        "block_hash": "00" * 32,
        "methods": list(call.connection.methods),
        "notifications": list(NOTIFICATIONS) if wallet.protocol.notifies else [],
    }


def get_balance(call: Call) -> Result:
    """Return the balance in msat."""
    return {"balance": call.wallet.balance_msat}


def get_budget(call: Call) -> Result:
    """Return the client's budget and its used part, in msat; {} without a budget."""
    terms, spender = call.connection.terms, call.connection.spender
    if terms.budget_msat is None:
        return {}
    used = call.wallet.ledger.spent(call.wallet.name, spender)
    end = period_of(terms.renewal).end
    return {
        "used_budget": used,
        "total_budget": terms.budget_msat,
        "renewal_period": str(terms.renewal),
        **({} if end is None else {"renews_at": end}),
    }


def make_invoice(call: Call) -> Result:
    """Issue an invoice; the bolt11 can differ from the result, see InvoiceBehaviour."""
    behaviour, params = call.wallet.invoice_behaviour, call.params
    amount_msat = params.integer("amount", minimum=1)
    expiry = params.optional(params.integer, "expiry", minimum=1) or EXPIRY
    invoice = call.wallet.issue(
        behaviour.amount_msat or amount_msat,
        expiry=behaviour.expiry or expiry,
        description=params.optional(params.text, "description") or "",
    )
    claimed = replace(
        invoice, amount_msat=amount_msat, expires_at=invoice.created_at + expiry
    )
    return _transaction(call, claimed, wrong_hash=behaviour.wrong_hash)


def lookup_invoice(call: Call) -> Result:
    """Return an invoice that the wallet issued or paid. Raises Refused."""
    params = call.params
    payment_hash = params.optional(params.text, "payment_hash")
    bolt11 = params.optional(params.text, "invoice")
    if payment_hash is None and bolt11 is None:
        raise Refused("BAD_REQUEST", "payment_hash or invoice is required.")
    invoice = call.wallet.ledger.invoice(payment_hash=payment_hash, bolt11=bolt11)
    if invoice is None or call.wallet.name not in (invoice.owner, invoice.payer):
        raise Refused("NOT_FOUND", "Invoice not found.")
    return _record(call, invoice)


def _record(call: Call, invoice: Invoice) -> Result:
    """Return the record that answers a look-up, see LookupBehaviour."""
    wallet, behaviour = call.wallet, call.wallet.lookup_behaviour
    known = _known(wallet, invoice)
    result = _transaction(call, known, wrong_hash=behaviour.wrong_hash)
    has_failed = invoice.payment_hash in wallet.ledger.failed
    if behaviour.newest_record and known.settled_at is None and has_failed:
        result |= {"type": "outgoing", "state": "failed"}
    return _in_notation(wallet, known, result)


def list_transactions(call: Call) -> Result:
    """Return the wallet's invoices and payments, newest first.

    `from`, `until`, `limit` (at most MAX_LISTED), `offset`, `unpaid` and `type` are
    NIP-47's; see also ListBehaviour.
    """
    params, behaviour = call.params, call.wallet.list_behaviour
    first = params.optional(params.integer, "from") or 0
    last = params.optional(params.integer, "until") or int(time.time())
    offset = params.optional(params.integer, "offset") or 0
    limit = params.optional(params.integer, "limit") or MAX_LISTED
    listed = [
        invoice
        for invoice in _listed(call)
        if first <= behaviour.time_of(invoice) <= last
    ]
    listed.sort(key=behaviour.time_of, reverse=True)
    page = listed[offset : offset + min(limit, MAX_LISTED)]
    transactions = [
        _in_notation(call.wallet, invoice, _transaction(call, invoice))
        for invoice in page
    ]
    return {"transactions": transactions}


def _listed(call: Call) -> list[Invoice]:
    """Return the invoices of the requested `type`, newest first, also `unpaid` ones."""
    params, wallet = call.params, call.wallet
    unpaid = params.optional(params.flag, "unpaid") or False
    type = params.optional(params.choice, "type", ("incoming", "outgoing"))
    invoices = reversed(wallet.ledger.invoices_of(wallet.name))
    return [
        invoice
        for invoice in (_known(wallet, invoice) for invoice in invoices)
        if (unpaid or invoice.settled_at is not None)
        and type in (None, _type_of(invoice, wallet))
    ]


METHODS: dict[str, Callable[[Call], Result]] = {
    method.__name__: method
    for method in (
        get_info,
        get_balance,
        get_budget,
        make_invoice,
        lookup_invoice,
        list_transactions,
    )
}


def transaction(invoice: Invoice, *, incoming: bool) -> Result:
    """Return an invoice as a NIP-47 transaction, with the preimage once settled."""
    settled = invoice.settled_at is not None
    result: Result = {
        "type": "incoming" if incoming else "outgoing",
        "state": _state_of(invoice),
        "invoice": invoice.bolt11,
        "description": invoice.description,
        "payment_hash": invoice.payment_hash,
        "amount": invoice.amount_msat,
        "fees_paid": 0,
        "created_at": invoice.created_at,
        "expires_at": invoice.expires_at,
        "metadata": {},
    }
    paid = {"settled_at": invoice.settled_at, "preimage": invoice.preimage}
    return {**result, **paid} if settled else result


def _transaction(call: Call, invoice: Invoice, *, wrong_hash: bool = False) -> Result:
    result = transaction(invoice, incoming=_type_of(invoice, call.wallet) == "incoming")
    if wrong_hash:
        result["payment_hash"] = make_preimage().hash
    return result


def _known(wallet: Wallet, invoice: Invoice) -> Invoice:
    """Return an invoice as far as the wallet knows of it."""
    if wallet.lookup_behaviour.never_settled and invoice.owner == wallet.name:
        return replace(invoice, settled_at=None, payer=None)
    return invoice


def _in_notation(wallet: Wallet, invoice: Invoice, result: Result) -> Result:
    is_expired = time.time() >= invoice.expires_at
    return wallet.lookup_behaviour.write(
        result, preimage=invoice.preimage, is_expired=is_expired
    )


def _type_of(invoice: Invoice, wallet: Wallet) -> str:
    return "incoming" if invoice.owner == wallet.name else "outgoing"


def _state_of(invoice: Invoice) -> str:
    if invoice.settled_at is not None:
        return "settled"
    return "expired" if time.time() >= invoice.expires_at else "pending"
