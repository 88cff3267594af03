"""The events that answer a request: the true reply and its scripted variants."""

import json
from collections.abc import Iterator
from typing import Any

from sandbox.common.nostr import (
    Event,
    Scheme,
    encrypt,
    generate_secret_key,
    pubkey_of,
    sign_event,
)
from sandbox.wallets.behaviour import CorruptReply, Decoy, ReplyBehaviour
from sandbox.wallets.bolt11 import make_preimage
from sandbox.wallets.messages import RESPONSE, Outcome, Refused, Request
from sandbox.wallets.wallet import Wallet

CONTRADICTION = Refused("INSUFFICIENT_BALANCE", "The balance is lower than the amount.")


def replies(
    wallet: Wallet, request: Request, behaviour: ReplyBehaviour, outcome: Outcome
) -> Iterator[Event]:
    """Yield the replies to a request in the order in which they are sent."""
    for decoy in behaviour.decoys:
        yield _decoy_reply(wallet, request, decoy, outcome)
    reader = None
    if behaviour.corruption is CorruptReply.UNDECRYPTABLE:
        reader = pubkey_of(generate_secret_key())
    body = outcome.to_dict(request.method, wallet.protocol.error_field)
    text = _corrupt(body, behaviour.corruption)
    for _ in range(behaviour.copies):
        yield _reply(wallet, request, text, reader=reader)


def rate_limited(wallet: Wallet, request: Event) -> Event:
    """Return the reply to a request that was not even decrypted, as coinos does.

    It names no method, and is NIP-04 whatever the request used
    (`nwc rate limit` in lib/nwc.ts of coinos/coinos-server).
    """
    error = Refused("RATE_LIMITED", "Too many requests.")
    unread = Request(request.id, request.pubkey, "rate_limited", {}, Scheme.NIP04)
    text = json.dumps(Outcome(error=error).to_dict(unread.method))
    return _reply(wallet, unread, text)


def fake_result() -> dict[str, Any]:
    """Return the result of a payment that never happened."""
    return {"preimage": make_preimage().secret, "fees_paid": 0}


def _corrupt(body: dict[str, Any], corruption: CorruptReply | None) -> str:
    result = body["result"] or {}
    match corruption:
        case CorruptReply.NOT_JSON:
            return "paid, thank you"
        case CorruptReply.NOT_AN_OBJECT:
            return json.dumps([body])
        case CorruptReply.WRONG_TYPE:
            body = {**body, "result_type": "get_alias"}
        case CorruptReply.NO_RESULT:
            body = {"result_type": body["result_type"]}
        case CorruptReply.NO_PREIMAGE:
            rest = {name: value for name, value in result.items() if name != "preimage"}
            body = {**body, "result": rest}
        case CorruptReply.WRONG_PREIMAGE:
            body = {**body, "result": {**result, "preimage": make_preimage().secret}}
    return json.dumps(body)


def _decoy_reply(
    wallet: Wallet, request: Request, decoy: Decoy, outcome: Outcome
) -> Event:
    contrary = Outcome(fake_result()) if outcome.error else Outcome(error=CONTRADICTION)
    text = json.dumps(contrary.to_dict(request.method))
    if decoy is Decoy.WRONG_KEY:
        return _reply(wallet, request, text, secret_key=generate_secret_key())
    return _reply(wallet, request, text, request_id=make_preimage().hash)


def _reply(
    wallet: Wallet,
    request: Request,
    text: str,
    *,
    secret_key: str | None = None,
    request_id: str | None = None,
    reader: str | None = None,
) -> Event:
    """Return a response, encrypted to the reader, by default to the client."""
    secret_key = secret_key or wallet.keys.wallet
    tags = [["p", request.client]] if wallet.protocol.names_client else []
    tags.append(["e", request_id or request.id])
    content = encrypt(request.scheme, secret_key, reader or request.client, text)
    return sign_event(
        secret_key, kind=RESPONSE, content=content, tags=tags, created_at=wallet.now()
    )
