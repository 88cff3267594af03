"""Outcome of a charge attempt: from a script in the metadata, else from the card."""

from collections.abc import Iterator
from dataclasses import dataclass

from sandbox.stripe.api.context import Context
from sandbox.stripe.objects.schemas.invoice import subscription_of
from sandbox.stripe.objects.schemas.test_cards import CARDS, Decline
from sandbox.stripe.store.records import Record

# Metadata key of a script, and the kind of the records of each script's progress.
SCRIPT = "sandbox_outcome"
PROGRESS = "_script"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcome of a charge; it succeeds with neither a decline nor one of the others.

    `processing`: a bank debit, whose real outcome follows days later.
    """

    decline: Decline | None = None
    challenge: bool = False
    processing: bool = False


def next_outcome(
    context: Context, invoice: Record, method: Record, *, off_session: bool
) -> Outcome:
    """Return the outcome of the next attempt; a script advances by one step."""
    if "_bank_account" in method:
        return Outcome(processing=True)
    for id, metadata in metadata_sources(context, invoice):
        if SCRIPT in metadata:
            step = _next_step(context, id, metadata[SCRIPT])
            decline = None if step in ("succeed", "requires_action") else Decline(step)
            return Outcome(decline, challenge=step == "requires_action")
    authentication = CARDS[method["_card"]].authentication
    # Docs page "Testing": once set up, these cards need no challenge off session.
    skips = authentication == "unless_set_up" and off_session and method["_set_up"]
    if authentication != "never" and not skips:
        return Outcome(challenge=True)
    return outcome_of_card(method)


def outcome_of_card(method: Record) -> Outcome:
    """Return the outcome of a charge without, or after, authentication."""
    reason = CARDS[method["_card"]].decline_reason
    return Outcome(decline=Decline(reason) if reason else None)


def metadata_sources(context: Context, invoice: Record) -> Iterator[tuple[str, Record]]:
    """Yield id and metadata of the invoice, its subscription and its customer.

    A subscription still being created is not stored yet: its metadata is taken from
    the copy on its first invoice.
    """
    yield invoice["id"], invoice["metadata"]
    id = subscription_of(invoice)
    if id is not None:
        snapshot = invoice["parent"]["subscription_details"]["metadata"]
        subscription = context.store.get("subscription", id)
        yield id, subscription["metadata"] if subscription else snapshot
    customer = context.store.get("customer", invoice["customer"]) or {}
    yield invoice["customer"], customer.get("metadata", {})


def _next_step(context: Context, owner: str, script: str) -> str:
    """Return the step for this attempt and store the progress.

    The last step repeats. A changed script starts at its first step.
    """
    record = context.store.get(PROGRESS, owner)
    used = record["used"] if record and record["script"] == script else 0
    context.store.put(
        PROGRESS,
        {
            "id": owner,
            "object": PROGRESS,
            "created": context.now,
            "script": script,
            "used": used + 1,
        },
    )
    steps = [step.strip() for step in script.split(",")]
    return steps[min(used, len(steps) - 1)]
