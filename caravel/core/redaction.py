"""Masking of secrets in texts that are logged or stored."""

import re
from collections.abc import Iterable

_MASK = "[redacted]"
_PATTERNS = [
    re.compile(r"(nostr(?:\+|%2B)?walletconnect(?::|%3A))[^\s\"'<>]+", re.IGNORECASE),
    re.compile(r"()nsec1[02-9ac-hj-np-z]{20,}", re.IGNORECASE),
    re.compile(r"((?:sk|rk)_(?:test|live)_)\w+"),
    re.compile(r"(whsec_)[\w+/=]+"),
    re.compile(r"()gAAAAA[\w-]{40,}={0,2}"),  # a Fernet token
    re.compile(
        r"((?:postgres(?:ql)?|pgsql)://[^:@/\s]+:|rediss?://[^:@/\s]*:)[^@/\s]+(?=@)"
    ),
    # A link to a payment page, or in an e-mail, is a credential. It can also be
    # URL-encoded inside another URL.
    re.compile(
        r"((?:/|%2F)(?:pay|confirm-email|stop-email)(?:/|%2F)[\w-]+(?:\.|%2E))[\w.%-]{8,}",
        re.IGNORECASE,
    ),
    re.compile(r"(Bearer |Basic |Nostr )[\w+/=.-]{8,}"),
    re.compile(
        r"((?:secret|preimage|password|nwc_url|private_key)\w*[\\\\\"']*\s*[:=]\s*b?[\\\\\"']*)"
        r"[0-9a-zA-Z+/_.-]{8,}=*",
        re.IGNORECASE,
    ),
]
_known_secrets: set[str] = set()


def add_secrets(secrets: Iterable[str]) -> None:
    """Mask these texts in every later call, if they have 8 characters or more."""
    _known_secrets.update(secret for secret in secrets if len(secret) >= 8)


def redact(text: str) -> str:
    """Return the text with every secret replaced by `[redacted]`."""
    for secret in _known_secrets:
        text = text.replace(secret, _MASK)
    for pattern in _PATTERNS:
        text = pattern.sub(rf"\1{_MASK}", text)
    return text
