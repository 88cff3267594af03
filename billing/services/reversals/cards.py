"""Cards that are not charged any more, because their bank may take the money back."""

from django.db.models import Q

from billing.models import Reversal

State = Reversal.State
#: A dispute that ended like this says nothing against the card.
_CLEARED_STATES = (State.WON, State.WARNING_CLOSED)


def blocked_cards(tenant_id: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the ids and the fingerprints of a tenant's cards that are not charged.

    Those of a dispute or an inquiry until it is won or closed, and those of an early
    fraud warning unless a dispute of the same charge was won. A card that is added
    again has another id, but the same fingerprint.
    """
    rows = Reversal.objects.filter(tenant=tenant_id)
    dispute, warning = Reversal.Kind.DISPUTE, Reversal.Kind.FRAUD_WARNING
    is_cleared = Q(state__in=_CLEARED_STATES)
    cleared = rows.filter(is_cleared, kind=dispute).values("charge_id")
    blocking: list[Reversal] = list(
        rows.filter(
            Q(~is_cleared, kind=dispute) | Q(~Q(charge_id__in=cleared), kind=warning)
        )
    )
    ids = frozenset(row.payment_method for row in blocking)
    fingerprints = frozenset(row.card_fingerprint for row in blocking)
    return ids - {""}, fingerprints - {""}
