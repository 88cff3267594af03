"""The events that answer a request: the true reply and its scripted variants."""

import json
from collections.abc import Iterator
from typing import Any

from sandbox.common.nostr import (
    Event,
    encrypt,
    generate_secret_key,
    pubkey_of,
    sign_event,
)
from sandbox.common.secrets import track
from sandbox.wallets.behaviour import CorruptReply, Decoy, ReplyBehaviour
from sandbox.wallets.bolt11 import make_preimage
from sandbox.wallets.messages import RESPONSE, Outcome, Refused, Request, reply
from sandbox.wallets.wallet import Wallet

CONTRADICTION = Refused("INSUFFICIENT_BALANCE", "The balance is lower than the amount.")


def replies(
    wallet: Wallet, request: Request, behaviour: ReplyBehaviour, outcome: Outcome
) -> Iterator[Event]:
    """Yield the replies to a request in the order in which they are sent."""
    for decoy in behaviour.decoys:
        yield _decoy_reply(wallet, request, decoy, outcome)
    for _ in range(behaviour.copies):
        yield _true_reply(wallet, request, behaviour.corruption, outcome)


def fake_result() -> dict[str, Any]:
    """Return the result of a payment that never happened."""
    return {"preimage": make_preimage().secret, "fees_paid": 0}


def _true_reply(
    wallet: Wallet, request: Request, corruption: CorruptReply | None, outcome: Outcome
) -> Event:
    text = _corrupt(outcome.to_dict(request.method), corruption)
    if corruption is CorruptReply.UNDECRYPTABLE:
        return _undecryptable_reply(wallet, request, text)
    return _reply(wallet, request, text)


def _corrupt(body: dict[str, Any], corruption: CorruptReply | None) -> str:
    result = body["result"] or {}
    if corruption is CorruptReply.NOT_JSON:
        return "paid, thank you"
    if corruption is CorruptReply.NOT_AN_OBJECT:
        return json.dumps([body])
    if corruption is CorruptReply.WRONG_TYPE:
        body = {**body, "result_type": "get_alias"}
    elif corruption is CorruptReply.NO_RESULT:
        body = {"result_type": body["result_type"]}
    elif corruption is CorruptReply.NO_PREIMAGE:
        rest = {name: value for name, value in result.items() if name != "preimage"}
        body = {**body, "result": rest}
    elif corruption is CorruptReply.WRONG_PREIMAGE:
        body = {**body, "result": {**result, "preimage": make_preimage().secret}}
    return json.dumps(body)


def _undecryptable_reply(wallet: Wallet, request: Request, text: str) -> Event:
    other_pubkey = pubkey_of(track(generate_secret_key()))
    content = encrypt(request.scheme, wallet.keys.wallet, other_pubkey, text)
    tags = [["p", request.client], ["e", request.id]]
    return sign_event(wallet.keys.wallet, kind=RESPONSE, content=content, tags=tags)


def _decoy_reply(
    wallet: Wallet, request: Request, decoy: Decoy, outcome: Outcome
) -> Event:
    contrary = Outcome(fake_result()) if outcome.error else Outcome(error=CONTRADICTION)
    text = json.dumps(contrary.to_dict(request.method))
    if decoy is Decoy.WRONG_KEY:
        key = track(generate_secret_key())
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
