"""Changes by staff, banks and card networks at Stripe, without Caravel.

An action gets the system, a payer and a variant from 0 to 3. What Stripe refuses has no
effect: a refusal is an allowed result.
"""

from billing.tests.support.simulation.staff import (
    banks,
    cards,
    edits,
    holds,
    pricing,
    refunds,
)
from billing.tests.support.simulation.staff.objects import StaffAction

#: All actions by name.
STAFF_ACTIONS: dict[str, StaffAction] = {
    action.__name__: action
    for module in (banks, cards, edits, holds, pricing, refunds)
    for action in module.ACTIONS
}
