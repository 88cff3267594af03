"""Activity log of tenants and relays."""

from tenants.models import Activity


def record_activity(
    *,
    tenant_id: str,
    type: Activity.Type,
    subject_type: str,
    subject_id: str,
    snapshot: dict[str, str] | None = None,
) -> Activity:
    """Log an activity. Call in the transaction of the change."""
    return Activity.objects.create(
        tenant_id=tenant_id,
        type=type,
        subject_type=subject_type,
        subject_id=subject_id,
        snapshot=snapshot or {},
    )
