"""LNbits' funding source for Nostr Wallet Connect, the class NWCWallet: a client."""

import asyncio
import os
from tempfile import mkdtemp
from typing import Any

from lines import WalletError, serve, tell
from loguru import logger

# LNbits makes files where it is imported, so its imports come last.
os.environ["LNBITS_DATA_FOLDER"] = mkdtemp(prefix="caravel-lnbits-")
os.chdir(os.environ["LNBITS_DATA_FOLDER"])

from lnbits.settings import settings
from lnbits.wallets.nwc import NWCWallet

# It logs each request, decrypted.
logger.remove()
_clients: dict[str, NWCWallet] = {}
_listeners: dict[str, asyncio.Task[None]] = {}


async def open_client(*, key: str, url: str) -> None:
    settings.nwc_pairing_url = url
    _clients[key] = wallet = NWCWallet()
    # Its own wait for a connection is in steps of a second.
    while not wallet.conn.connected:
        await asyncio.sleep(0.01)
    # As LNbits does at its start. Before it knows the wallet's encryption it loses
    # replies to simultaneous requests.
    await wallet.status()


async def close_client(*, key: str) -> None:
    if task := _listeners.pop(key, None):
        task.cancel()
    await _clients.pop(key).cleanup()


async def listen(*, key: str) -> None:
    _listeners[key] = asyncio.create_task(_listen(key))


async def _listen(key: str) -> None:
    async for payment_hash in _clients[key].paid_invoices_stream():
        payment = {"payment_hash": payment_hash}
        notification = {
            "notification_type": "payment_received",
            "notification": payment,
        }
        tell("notify", key=key, notification=notification)


async def request(*, key: str, method: str, params: dict[str, Any]) -> Any:
    call = _METHODS.get(method)
    if call:
        return await call(_clients[key], params)
    return await _clients[key].conn.call(method, params)


async def get_info(wallet: NWCWallet, params: dict[str, Any]) -> Any:
    info = await wallet.conn.get_info()
    return {
        "alias": info.get("alias"),
        "network": info.get("network"),
        "methods": list(info["supported_methods"]),
        "notifications": list(info["notification_types"]),
    }


async def get_balance(wallet: NWCWallet, params: dict[str, Any]) -> Any:
    status = await wallet.status()
    if status.error_message:
        raise WalletError("", status.error_message)
    return {"balance": status.balance_msat}


async def make_invoice(wallet: NWCWallet, params: dict[str, Any]) -> Any:
    issued = await wallet.create_invoice(
        params["amount"] / 1000, params["description"], expiry=params["expiry"]
    )
    if not issued.ok:
        raise WalletError("", issued.error_message)
    return {"invoice": issued.payment_request, "payment_hash": issued.checking_id}


async def lookup_invoice(wallet: NWCWallet, params: dict[str, Any]) -> Any:
    """Return only what the class shows: whether it is paid, and the preimage."""
    status = await wallet.get_invoice_status(params["payment_hash"])
    return {
        "state": "settled" if status.paid else "pending",
        "preimage": status.preimage,
    }


async def pay_invoice(wallet: NWCWallet, params: dict[str, Any]) -> Any:
    paid = await wallet.pay_invoice(params["invoice"], fee_limit_msat=1_000)
    if not paid.ok:
        raise WalletError("", paid.error_message or "pending")
    return {"preimage": paid.preimage}


_METHODS = {
    method.__name__: method
    for method in (get_info, get_balance, make_invoice, lookup_invoice, pay_invoice)
}

serve({each.__name__: each for each in (open_client, close_client, listen, request)})
