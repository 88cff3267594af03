"""The encrypted content of a wallet's responses and notifications."""

import json
from typing import Any

from caravel.nostr.encryption import Scheme, Unreadable, decrypt
from caravel.nostr.events import Event
from lightning.clients.nwc_uri import NwcUri
from lightning.exceptions import InvalidWalletReply


def decrypt_content(uri: NwcUri, event: Event) -> dict[str, Any]:
    """Return the JSON object in a wallet's event. Raises InvalidWalletReply."""
    scheme = Scheme.NIP04 if "?iv=" in event.content else Scheme.NIP44
    try:
        content = json.loads(decrypt(scheme, uri.secret, uri.pubkey, event.content))
    except (Unreadable, ValueError, RecursionError) as exc:
        raise InvalidWalletReply("The wallet's answer is unreadable.") from exc
    if not isinstance(content, dict):
        raise InvalidWalletReply("The wallet's answer is unreadable.")
    return content
