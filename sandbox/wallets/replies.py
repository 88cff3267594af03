"""The events that answer a call: the true reply, and what a script makes of it."""

import json
from collections.abc import Iterator
from typing import Any

from caravel.nostr import generate_secret_key, pubkey_of
from caravel.nostr.encryption import encrypt
from caravel.nostr.events import Event, sign_event
from sandbox.wallets.behaviour import Answering, Decoy, Garbage
from sandbox.wallets.bolt11 import make_preimage
from sandbox.wallets.messages import RESPONSE, Outcome, Refused, Request, reply
from sandbox.wallets.secrets import remember
from sandbox.wallets.wallet import Wallet

CONTRARY = Refused("INSUFFICIENT_BALANCE", "The balance is lower than the amount.")


def replies(
    wallet: Wallet, request: Request, answering: Answering, outcome: Outcome
) -> Iterator[Event]:
    """Yield the replies to a request in the order in which they leave."""
    for decoy in answering.decoys:
        yield _decoy(wallet, request, decoy, outcome)
    for _ in range(answering.copies):
        yield _true(wallet, request, answering.garbage, outcome)


def invent_result() -> dict[str, Any]:
    """Return the result of a payment that never was."""
    return {"preimage": make_preimage().secret, "fees_paid": 0}


def _true(
    wallet: Wallet, request: Request, garbage: Garbage | None, outcome: Outcome
) -> Event:
    text = _spoil(outcome.to_dict(request.method), garbage)
    if garbage is Garbage.UNDECRYPTABLE:
        return _undecryptable(wallet, request, text)
    return _reply(wallet, request, text)


def _spoil(body: dict[str, Any], garbage: Garbage | None) -> str:
    result = body["result"] or {}
    if garbage is Garbage.NOT_JSON:
        return "paid, thank you"
    if garbage is Garbage.NOT_AN_OBJECT:
        return json.dumps([body])
    if garbage is Garbage.WRONG_TYPE:
        body = {**body, "result_type": "get_alias"}
    elif garbage is Garbage.NO_RESULT:
        body = {"result_type": body["result_type"]}
    elif garbage is Garbage.NO_PREIMAGE:
        kept = {name: value for name, value in result.items() if name != "preimage"}
        body = {**body, "result": kept}
    elif garbage is Garbage.WRONG_PREIMAGE:
        body = {**body, "result": {**result, "preimage": make_preimage().secret}}
    return json.dumps(body)


def _undecryptable(wallet: Wallet, request: Request, text: str) -> Event:
    stranger = pubkey_of(remember(generate_secret_key()))
    content = encrypt(request.scheme, wallet.keys.wallet, stranger, text)
    tags = [["p", request.client], ["e", request.id]]
    return sign_event(wallet.keys.wallet, kind=RESPONSE, content=content, tags=tags)


def _decoy(wallet: Wallet, request: Request, decoy: Decoy, outcome: Outcome) -> Event:
    contrary = Outcome(invent_result()) if outcome.error else Outcome(error=CONTRARY)
    text = json.dumps(contrary.to_dict(request.method))
    if decoy is Decoy.WRONG_KEY:
        key = remember(generate_secret_key())
        return _reply(wallet, request, text, secret_key=key)
    return _reply(wallet, request, text, request_id=make_preimage().hash)


def _reply(
    wallet: Wallet,
    request: Request,
    text: str,
    *,
    secret_key: str | None = None,
    request_id: str | None = None,
) -> Event:
    return reply(
        secret_key=secret_key or wallet.keys.wallet,
        client=request.client,
        request_id=request_id or request.id,
        scheme=request.scheme,
        text=text,
        names_client=wallet.protocol.names_client,
    )
