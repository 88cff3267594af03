"""Masking of secrets in texts that are logged or stored."""

import json
import re
from collections.abc import Iterable
from urllib.parse import quote

_MASK = "[redacted]"
#: URL-encoding, also of what is encoded already: a URL inside of another one.
_PERCENT = "%(?:25){0,3}"
_QUOTES = rf"(?:[\"']|\\(?!u003d)|{_PERCENT}2[27]){{0,16}}+"
# Strangers choose what is searched, such as the path of a request. So no pattern may
# scan what it has scanned before: where a match can begin inside of another, what
# follows is bounded.
_PATTERNS = [
    re.compile(
        rf"(nostr(?:[+ ]|{_PERCENT}2B|\\u002b)?walletconnect(?::|{_PERCENT}3A))"
        r"[^\s\"'<>]+",
        re.IGNORECASE,
    ),
    re.compile(r"()nsec1[02-9ac-hj-np-z]{20,}", re.IGNORECASE),
    re.compile(r"((?:sk|rk)_(?:test|live)_)\w+"),
    re.compile(r"(whsec_)[\w+/=]+"),
    re.compile(r"()gAAAAA[\w-]{40,}={0,2}"),  # a Fernet token
    # A password in a URL, such as of a database, a broker or a mail server.
    re.compile(
        r"(\b[a-z][a-z\d+.-]{1,20}://[^:@/\s\"']*:)[^@/\s\"']+(?=@)", re.IGNORECASE
    ),
    # A link to a payment page, to an export or in an e-mail is a credential.
    re.compile(
        rf"((?:/|{_PERCENT}2F)(?:pay|confirm-email|stop-email|exports)"
        rf"(?:/|{_PERCENT}2F)[\w-]+(?:\.|{_PERCENT}2E))[\w.%-]{{8,}}",
        re.IGNORECASE,
    ),
    # The name under which a relay that is off is exported.
    re.compile(r"(\bx)[0-9a-f]{32}(?=\.)", re.IGNORECASE),
    re.compile(r"(Bearer |Basic |Nostr )[\w+/=.-]{8,}"),
    re.compile(
        # Possessive: a shorter repetition would not match either.
        r"((?:secret|preimage|password|nwc_url|private_key)\w{0,32}+"
        rf"{_QUOTES}\s{{0,8}}+(?:[:=]|{_PERCENT}3[AD]|\\u003d)\s{{0,8}}+b?{_QUOTES})"
        r"[0-9a-zA-Z+/_.-]{8,}=*",
        re.IGNORECASE,
    ),
]
#: No secret that is recognised by its end has more characters.
_MARGIN = 200
_known_secrets: set[str] = set()


def add_secrets(secrets: Iterable[str]) -> None:
    """Mask these texts in every later call, if they have 8 characters or more."""
    for secret in secrets:
        if len(secret) >= 8:
            escaped = json.dumps(secret)[1:-1]
            _known_secrets.update((secret, escaped, quote(secret, safe="")))


def redact(text: str) -> str:
    """Return the text with every secret replaced by `[redacted]`."""
    for secret in _known_secrets:
        text = text.replace(secret, _MASK)
    for pattern in _PATTERNS:
        text = pattern.sub(rf"\1{_MASK}", text)
    return text


def redact_start(text: str, length: int) -> str:
    """Return the redacted beginning of a text, of about `length` characters.

    No more than that is searched.
    """
    if len(text) <= length:
        return redact(text)
    margin = max(_MARGIN, *map(len, _known_secrets))
    start = redact(text[: length + margin])
    if len(text) > length + margin:
        # A secret that was cut in two is not recognised: leave out its first part.
        start = start[:-margin]
    return f"{start[:length]}… ({len(text)} characters)"
