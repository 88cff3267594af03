"""nostr-sdk's Nostr Wallet Connect, a client only and without notifications."""

import re
from typing import Any

from lines import WalletError, serve
from nostr_sdk import (
    ListTransactionsRequest,
    LookupInvoiceRequest,
    MakeInvoiceRequest,
    Method,
    NostrSdkError,
    NostrWalletConnect,
    NostrWalletConnectUri,
    PayInvoiceRequest,
)

_clients: dict[str, NostrWalletConnect] = {}
#: The library has no field for the code; it ends the message, as [NotFound].
_CODE = re.compile(r"\[(\w+)\]'?$")
_WORD = re.compile(r"(?<!^)(?=[A-Z])")


async def open_client(*, key: str, url: str) -> None:
    _clients[key] = NostrWalletConnect(NostrWalletConnectUri.parse(url))


async def close_client(*, key: str) -> None:
    await _clients.pop(key).client().shutdown()


async def request(*, key: str, method: str, params: dict[str, Any]) -> Any:
    try:
        return await _METHODS[method](_clients[key], params)
    except NostrSdkError as exc:
        found = _CODE.search(str(exc))
        code = _WORD.sub("_", found[1]).upper() if found else ""
        raise WalletError(code, str(exc)) from exc


async def get_info(client: NostrWalletConnect, params: dict[str, Any]) -> Any:
    info = await client.get_info()
    return {
        "alias": info.alias,
        "network": info.network,
        "methods": [_name_of(method) for method in info.methods],
        "notifications": info.notifications,
    }


def _name_of(method: Method) -> str:
    """Return a method's name: each is a class, as Method.PAY_INVOICE."""
    return type(method).__name__.rpartition(".")[2].lower()


async def get_balance(client: NostrWalletConnect, params: dict[str, Any]) -> Any:
    return {"balance": (await client.get_balance()).balance}


async def make_invoice(client: NostrWalletConnect, params: dict[str, Any]) -> Any:
    request = MakeInvoiceRequest(
        amount=params["amount"],
        description=params["description"],
        description_hash=None,
        expiry=params["expiry"],
    )
    issued = await client.make_invoice(request)
    return {"invoice": issued.invoice, "payment_hash": issued.payment_hash}


async def lookup_invoice(client: NostrWalletConnect, params: dict[str, Any]) -> Any:
    payment_hash = params["payment_hash"]
    found = await client.lookup_invoice(
        LookupInvoiceRequest(payment_hash=payment_hash, invoice=None)
    )
    return {
        "state": found.state.name.lower() if found.state else None,
        "amount": found.amount,
        "preimage": found.preimage,
    }


async def list_transactions(client: NostrWalletConnect, params: dict[str, Any]) -> Any:
    request = ListTransactionsRequest(
        _from=None,
        until=None,
        limit=None,
        offset=None,
        unpaid=None,
        transaction_type=None,
    )
    listed = await client.list_transactions(request)
    return {
        "transactions": [
            {
                "payment_hash": each.payment_hash,
                "type": each.transaction_type and each.transaction_type.name.lower(),
            }
            for each in listed
        ]
    }


async def pay_invoice(client: NostrWalletConnect, params: dict[str, Any]) -> Any:
    request = PayInvoiceRequest(id=None, invoice=params["invoice"], amount=None)
    paid = await client.pay_invoice(request)
    return {"preimage": paid.preimage, "fees_paid": paid.fees_paid}


_METHODS = {
    method.__name__: method
    for method in (
        get_info,
        get_balance,
        make_invoice,
        lookup_invoice,
        list_transactions,
        pay_invoice,
    )
}

serve({each.__name__: each for each in (open_client, close_client, request)})
