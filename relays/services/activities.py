"""Activities of relays: what `RelayHistory` reads again years later."""

from relays.models import Relay
from tenants.models import Activity
from tenants.services.activities import record_activity


def record_relay_activity(relay: Relay, type: Activity.Type) -> None:
    """Log an activity of a relay, with what it is billed by.

    Call in the transaction of the change, on an instance with its present columns.
    """
    record_activity(
        tenant_id=relay.tenant_id,
        type=type,
        subject_type="relay",
        subject_id=str(relay.pk),
        snapshot={"plan": relay.plan_id, "status": relay.status},
    )
