"""Prompt in the public description of a relay while a payment for it is due.

Everybody can read it, so that it leads to a page that sends the payment link to the
owner, and names neither the amount nor the link (ADR 41).
"""

import re

from django.conf import settings
from django.urls import reverse

from relays.models import Relay

#: Never changed: it is found in descriptions that were sent before a change.
_SENTENCE = "⚠ An invoice for this relay is unpaid. Owner, get your payment link:"
_SEPARATOR = "\n\n"


def is_due(relay: Relay) -> bool:
    """Return whether the relay's description has to contain the prompt.

    Not if its owner has removed it since the invoice was finalized.
    """
    tenant, removed_at = relay.tenant, relay.prompt_removed_at
    since = tenant.past_due_at
    # Also while it is suspended: it cannot be read then, and words are not sent unread.
    is_needed = relay.status != Relay.Status.INACTIVE and relay.plan.is_paid
    if not settings.RELAY_PAYMENT_PROMPT or not is_needed or tenant.dunning_exempt:
        return False
    return since is not None and (removed_at is None or removed_at < since)


def add_prompt(words: str, relay: Relay) -> str:
    """Return the owner's words followed by the prompt."""
    prompt = f"{_SENTENCE} {settings.APP_URL}{_path(relay)}"
    return f"{words}{_SEPARATOR}{prompt}" if words else prompt


def count_prompts(text: str, relay: Relay) -> int:
    """Return how often a description contains the relay's prompt."""
    return len(re.findall(_prompt(relay), text))


def remove_prompts(text: str, relay: Relay) -> str:
    """Return a description without the prompt, wherever its owner has moved it.

    Of a prompt that the owner has reworded, only the URL is removed: the rest may be
    the owner's words.
    """
    parts = re.split(_prompt(relay), text)
    if len(parts) == 1:
        return text
    separator = _SEPARATOR if "\n" in text else " "
    return separator.join(part.strip() for part in parts if part.strip())


def _prompt(relay: Relay) -> str:
    """Return a pattern that also matches the prompt under an earlier APP_URL."""
    sentence, path = re.escape(_SENTENCE), re.escape(_path(relay))
    return rf"(?:{sentence}\s*)?https?://[^\s/]+{path}"


def _path(relay: Relay) -> str:
    return reverse("relay-payment", args=[relay.pk])
