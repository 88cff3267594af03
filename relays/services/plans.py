"""Plans by the ids that callers send."""

from relays.exceptions import UnknownPlan
from relays.models import Plan


def get_plan(plan_id: str) -> Plan:
    """Return a plan. Raises UnknownPlan."""
    # Not a query by id: untrusted input such as NUL would be an error in the database.
    plan = next((plan for plan in Plan.objects.all() if plan.pk == plan_id), None)
    if plan is None:
        raise UnknownPlan("There is no such plan.")
    return plan
