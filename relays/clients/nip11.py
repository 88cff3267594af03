"""NIP-11 documents: the proof that a relay is served, and as whom.

https://github.com/nostr-protocol/nips/blob/master/11.md
"""

import json
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import requests
from django.conf import settings

from caravel.core.db.transactions import release_connection
from caravel.core.http_client import RequestFailed, Response, get, new_session
from relays.exceptions import RelayUnreachable

#: Seconds for a complete response.
TIMEOUT = 5.0
MAX_BYTES = 64 * 1024
#: Requests at once in this process, whoever makes them.
CONNECTIONS = 64
# khatru compares the whole Accept; to any other it answers with its web page. What a
# cache has stored proves nothing.
_HEADERS = {"Accept": "application/nostr+json", "Cache-Control": "no-cache"}
_PUBKEY = re.compile(r"[0-9a-f]{64}")
_threads = ThreadPoolExecutor(CONNECTIONS, "nip11")


@dataclass(frozen=True)
class RelayDocument:
    """NIP-11 document of a relay; "" for a field that it leaves out.

    Texts are those of strangers, without control characters.
    """

    name: str
    description: str
    icon: str
    #: Public key of the owner, in hex.
    pubkey: str
    #: Public key of the relay, in hex; zooid versions before 2025-10 do not name it.
    self_pubkey: str


#: The document, None if no relay is served under the name, or why neither is known.
Probe = RelayDocument | RelayUnreachable | None


def fetch_document(host: str) -> RelayDocument | None:
    """Return the document of the relay at `host`, None if none is served there (404).

    Raises RelayUnreachable if the answer proves neither. Do not call inside a
    transaction.
    """
    return _read(_fetch(host, None))


def fetch_documents(hosts: Sequence[str]) -> Mapping[str, Probe]:
    """Fetch the documents of many hosts at once, a bounded number at a time.

    When as many in a row were not reached, the others are not requested: a server that
    hangs would be asked all day. Do not call inside a transaction.
    """
    release_connection()
    unique = [*dict.fromkeys(hosts)]
    probes: dict[str, Probe] = {}
    with new_session(CONNECTIONS) as session:
        for start in range(0, len(unique), CONNECTIONS):
            part = unique[start : start + CONNECTIONS]
            found = [*_threads.map(partial(_probe, session), part)]
            probes.update(zip(part, found, strict=True))
            if all(isinstance(probe, RelayUnreachable) for probe in found):
                break
    skipped = RelayUnreachable("It was not requested: no other relay was reached.")
    return {host: probes.get(host, skipped) for host in unique}


def _probe(session: requests.Session, host: str) -> Probe:
    try:
        return _read(_fetch(host, session))
    except RelayUnreachable as exc:
        return exc


def _fetch(host: str, session: requests.Session | None) -> Response:
    """Return the response of a relay. Raises RelayUnreachable."""
    scheme = urlsplit(settings.APP_URL).scheme
    try:
        return get(
            f"{settings.ZOOID_RELAYS_URL or f'{scheme}://{host}'}/",
            timeout=TIMEOUT,
            max_bytes=MAX_BYTES,
            headers={**_HEADERS, "Host": host},
            session=session,
        )
    except RequestFailed as exc:
        raise RelayUnreachable(f"The relay was not reached: {exc}.") from exc


def _read(response: Response) -> RelayDocument | None:
    if response.status == HTTPStatus.NOT_FOUND:
        # A proxy that does not know the name also answers 404, in other words.
        # https://github.com/coracle-social/zooid/blob/master/cmd/relay/main.go
        if response.body.strip() == b"Not Found":
            return None
        raise RelayUnreachable("A proxy answered 404 in place of zooid.")
    if response.status != HTTPStatus.OK:
        raise RelayUnreachable(f"The relay answered {response.status}.")
    return _document(response.body)


def _document(body: bytes) -> RelayDocument:
    """Return the document in a body. Raises RelayUnreachable."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise _invalid() from exc
    if not isinstance(content, dict) or not _pubkey(content, "pubkey"):
        raise _invalid()
    return RelayDocument(
        name=_text(content, "name"),
        description=_text(content, "description"),
        icon=_text(content, "icon"),
        pubkey=_pubkey(content, "pubkey"),
        self_pubkey=_pubkey(content, "self"),
    )


def _pubkey(content: Mapping[str, Any], name: str) -> str:
    value = content.get(name)
    return value if isinstance(value, str) and _PUBKEY.fullmatch(value) else ""


def _text(content: Mapping[str, Any], name: str) -> str:
    value = content.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _invalid()
    return printable(value)


def printable(text: str) -> str:
    """Return the text as a document has it: without control characters.

    A text of ours that is compared with that of a document goes through it, too.
    """
    return "".join(filter(_is_printable, text))


def _is_printable(character: str) -> bool:
    # Surrogates, which JSON allows, cannot be stored.
    return character in "\r\n\t" or unicodedata.category(character) not in ("Cc", "Cs")


def _invalid() -> RelayUnreachable:
    return RelayUnreachable("The relay's answer is no NIP-11 document of zooid.")


def _reset_in_child() -> None:
    """Replace the threads after a fork: the parent's do not run in the child."""
    global _threads
    _threads = ThreadPoolExecutor(CONNECTIONS, "nip11")


os.register_at_fork(after_in_child=_reset_in_child)
