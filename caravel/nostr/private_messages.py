"""Private messages (NIP-17): a text that only its recipient can read or trace.

The message itself is not signed. It is encrypted into a seal, which the sender signs,
and that into a gift wrap, which a key made for the purpose signs (NIP-59).
"""

import json
import secrets
import time

from caravel.nostr.encryption import Scheme, encrypt
from caravel.nostr.events import Event, sign_event, unsigned_event
from caravel.nostr.keys import generate_secret_key, pubkey_of

MESSAGE, SEAL, GIFT_WRAP = 14, 13, 1059
#: NIP-59: up to two days into the past, in seconds, so that times tell nothing.
_TWO_DAYS = 2 * 24 * 3600


def wrap_message(secret_key: str, pubkey: str, text: str) -> Event:
    """Return the gift wrap of a message from the owner of a key to that of another.

    Each call makes another event: who may have to send it again keeps it.
    """
    message = unsigned_event(
        pubkey_of(secret_key), kind=MESSAGE, content=text, tags=[("p", pubkey)]
    )
    seal = sign_event(
        secret_key,
        kind=SEAL,
        content=encrypt(Scheme.NIP44, secret_key, pubkey, _json(message)),
        created_at=_some_time_ago(),
    )
    once = generate_secret_key()
    return sign_event(
        once,
        kind=GIFT_WRAP,
        content=encrypt(Scheme.NIP44, once, pubkey, seal.to_json()),
        tags=[("p", pubkey)],
        created_at=_some_time_ago(),
    )


def _json(message: dict[str, object]) -> str:
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False)


def _some_time_ago() -> int:
    return int(time.time()) - secrets.randbelow(_TWO_DAYS)
