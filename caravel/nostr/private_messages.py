"""Private messages (NIP-17): only the recipient can read them or see the sender.

The message itself is not signed. It is encrypted into a seal, signed by the sender, and
the seal into a gift wrap, signed by a one-time key (NIP-59).
"""

import json
import secrets
import time

from caravel.nostr.encryption import Scheme, encrypt
from caravel.nostr.events import Event, sign_event, unsigned_event
from caravel.nostr.keys import generate_secret_key, pubkey_of

MESSAGE, SEAL, GIFT_WRAP = 14, 13, 1059
#: NIP-59: timestamps are up to two days in the past (in seconds) to hide the real time.
_MAX_BACKDATE = 2 * 24 * 3600


def wrap_message(secret_key: str, pubkey: str, text: str) -> Event:
    """Return the gift wrap of a message from a secret key's owner to a public key's.

    Each call returns a different event. To resend a message, store its gift wrap.
    """
    message = unsigned_event(
        pubkey_of(secret_key), kind=MESSAGE, content=text, tags=[("p", pubkey)]
    )
    message_json = json.dumps(message, separators=(",", ":"), ensure_ascii=False)
    seal = sign_event(
        secret_key,
        kind=SEAL,
        content=encrypt(Scheme.NIP44, secret_key, pubkey, message_json),
        created_at=_random_past_time(),
    )
    one_time_key = generate_secret_key()
    return sign_event(
        one_time_key,
        kind=GIFT_WRAP,
        content=encrypt(Scheme.NIP44, one_time_key, pubkey, seal.to_json()),
        tags=[("p", pubkey)],
        created_at=_random_past_time(),
    )


def _random_past_time() -> int:
    return int(time.time()) - secrets.randbelow(_MAX_BACKDATE)
