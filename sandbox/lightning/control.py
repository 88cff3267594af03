"""The control API under `/_sandbox/`: JSON, no credentials.

Access: see `sandbox.common.access`.
"""

import json
import logging
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sandbox.common.http import Request, Response, json_response
from sandbox.lightning.commands import execute, match_command
from sandbox.lightning.commands_base import Answer, Refused
from sandbox.lightning.views import (
    NEWEST,
    serialize_invoice,
    serialize_prices,
    serialize_relay,
    serialize_requests,
    serialize_state,
    serialize_wallet,
)

if TYPE_CHECKING:
    from sandbox.lightning.stack import Lightning

logger = logging.getLogger(__name__)
PREFIX = "/_sandbox/"


def handle(
    lightning: "Lightning", request: Request, denial_reason: str | None
) -> Response:
    """Handle a control request, or answer 403 with the denial reason; never raises."""
    if denial_reason:
        return _error(403, denial_reason)
    try:
        return json_response(200, _answer(lightning, request))
    except Refused as error:
        return _error(error.status, str(error))
    except Exception:
        logger.exception("%s %s failed", request.method, request.path)
        return _error(500, "internal error of the sandbox; see its log")


def _answer(lightning: "Lightning", request: Request) -> Answer:
    path = request.path.removeprefix(PREFIX)
    for pattern, show in VIEWS.items():
        match = re.fullmatch(pattern, path)
        if match and request.method in ("GET", "HEAD"):
            with lightning.lock:
                return show(lightning, *match.groups())
    command = match_command(request.method, path)
    if command is None:
        raise Refused(404, f"no {request.method} {request.path}")
    return execute(lightning, command, _body(request))


def _body(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(request.body or b"{}")
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"not JSON: {error}") from None
    if not isinstance(body, dict):
        raise Refused(400, "a JSON object is expected")
    return body


def _wallets(lightning: "Lightning") -> Answer:
    return {"data": [serialize_wallet(wallet) for wallet in lightning.wallets]}


def _wallet(lightning: "Lightning", name: str) -> Answer:
    for wallet in lightning.wallets:
        if wallet.name == name:
            return {**serialize_wallet(wallet), "requests": serialize_requests(wallet)}
    raise Refused(404, f"no wallet {name}")


def _invoices(lightning: "Lightning") -> Answer:
    newest = lightning.wallets.ledger.latest(NEWEST)
    return {"data": [serialize_invoice(invoice) for invoice in newest]}


def _error(status: int, message: str) -> Response:
    return json_response(status, {"error": message})


VIEWS: dict[str, Callable[..., Answer]] = {
    "state": serialize_state,
    "wallets": _wallets,
    r"wallets/([\w-]+)": _wallet,
    "invoices": _invoices,
    "prices": serialize_prices,
    "relay": serialize_relay,
}
