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
    """Outcome of a charge; it succeeds with neither a decline nor a challenge."""

    decline: Decline | None = None
    challenge: bool = False


def next_outcome(
    context: Context, invoice: Record, method: Record, *, off_session: bool
) -> Outcome:
    """Return the outcome of the next attempt; a script advances by one step."""
    step = _scripted_step(context, invoice)
    if step is not None:
        return _outcome_of_step(step)
    if _requires_challenge(method, off_session=off_session):
        return Outcome(challenge=True)
    return outcome_of_card(method)


def outcome_of_card(method: Record) -> Outcome:
    """Return the outcome of a charge without, or after, authentication."""
    reason = CARDS[method["_card"]].decline_reason
    return Outcome(decline=Decline(reason) if reason else None)


def _requires_challenge(method: Record, *, off_session: bool) -> bool:
    """Return whether 3D Secure is required (docs page "Testing", authentication)."""
    authentication = CARDS[method["_card"]].authentication
    # Once set up, these cards skip the challenge only off session.
    if authentication == "unless_set_up":
        return not (off_session and method["_set_up"])
    return authentication == "always"


def _outcome_of_step(step: str) -> Outcome:
    if step == "requires_action":
        return Outcome(challenge=True)
    return Outcome(decline=None if step == "succeed" else Decline(step))


def _scripted_step(context: Context, invoice: Record) -> str | None:
    for id, metadata in _metadata_sources(context, invoice):
        if SCRIPT in metadata:
            return _next_step(context, id, metadata[SCRIPT])
    return None


def _metadata_sources(
    context: Context, invoice: Record
) -> Iterator[tuple[str, Record]]:
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
    # With `error_if_incomplete` a failure rolls this back too: the step then repeats.
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
