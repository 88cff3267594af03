"""What an attempt to charge a card comes to: a script decides, else the card."""

from collections.abc import Iterator
from dataclasses import dataclass

from sandbox.stripe.context import Context
from sandbox.stripe.objects.cards import CARDS, Decline
from sandbox.stripe.objects.invoice_shape import subscription_of
from sandbox.stripe.store import Record

SCRIPT = "sandbox_outcome"
USED = "_script"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Neither a decline nor a challenge: the charge goes through."""

    decline: Decline | None = None
    challenge: bool = False


def decide(
    context: Context, invoice: Record, method: Record, *, off_session: bool
) -> Outcome:
    """Return what the next attempt comes to; a script moves on by one."""
    word = _scripted(context, invoice)
    if word is not None:
        return _of_word(word)
    if _challenges(method, off_session=off_session):
        return Outcome(challenge=True)
    return after_challenge(method)


def after_challenge(method: Record) -> Outcome:
    """Return what comes of a charge that needs no authentication, or passed it."""
    reason = CARDS[method["_card"]].refuses
    return Outcome(decline=Decline(reason) if reason else None)


def _challenges(method: Record, *, off_session: bool) -> bool:
    """Return whether 3D Secure is asked for (docs page "Testing", authentication)."""
    wanted = CARDS[method["_card"]].authentication
    if wanted == "unless_set_up":
        return not (off_session and method["_set_up"])
    return wanted == "always"


def _of_word(word: str) -> Outcome:
    if word == "requires_action":
        return Outcome(challenge=True)
    return Outcome(decline=None if word == "succeed" else Decline(word))


def _scripted(context: Context, invoice: Record) -> str | None:
    for id, metadata in _owners(context, invoice):
        if SCRIPT in metadata:
            return _next_word(context, id, metadata[SCRIPT])
    return None


def _owners(context: Context, invoice: Record) -> Iterator[tuple[str, Record]]:
    """Yield who may have a script, the invoice first.

    A subscription that is only being created speaks through its first invoice.
    """
    yield invoice["id"], invoice["metadata"]
    id = subscription_of(invoice)
    if id is not None:
        snapshot = invoice["parent"]["subscription_details"]["metadata"]
        subscription = context.store.get("subscription", id)
        yield id, subscription["metadata"] if subscription else snapshot
    customer = context.store.get("customer", invoice["customer"]) or {}
    yield invoice["customer"], customer.get("metadata", {})


def _next_word(context: Context, owner: str, script: str) -> str:
    """Return the word for this attempt; the last one stays, a new script starts."""
    record = context.store.get(USED, owner)
    used = record["used"] if record and record["script"] == script else 0
    context.store.put(
        USED,
        {
            "id": owner,
            "object": USED,
            "created": context.now,
            "script": script,
            "used": used + 1,
        },
    )
    words = [word.strip() for word in script.split(",")]
    return words[min(used, len(words) - 1)]
