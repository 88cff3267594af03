"""Creating and updating tenants."""

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction

from caravel.exceptions import Invalid
from caravel.nostr import parse_pubkey
from tenants.models import Activity, Tenant
from tenants.services.activities import record_activity


def get_or_create_tenant(*, pubkey: str) -> tuple[Tenant, bool]:
    """Return the tenant of a public key (hex or npub), and whether it is new.

    Raises InvalidPubkey. Two calls at once make one tenant and one activity.
    """
    with transaction.atomic():
        tenant, created = Tenant.objects.get_or_create(pubkey=parse_pubkey(pubkey))
        if created:
            _record(tenant, Activity.Type.CREATE_TENANT)
    return tenant, created


def update_tenant(
    *, pubkey: str, email: str | None = None, display_name: str | None = None
) -> Tenant:
    """Change what is given. Raises Tenant.DoesNotExist, or Invalid for a bad e-mail."""
    changes = {"email": email, "display_name": display_name}
    given = {name: value for name, value in changes.items() if value is not None}
    if given.get("email"):
        _require_email(given["email"])
    with transaction.atomic():
        tenant = Tenant.objects.select_for_update().get(pk=pubkey)
        for name, value in given.items():
            setattr(tenant, name, value)
        tenant.save(update_fields=[*given])
        _record(tenant, Activity.Type.UPDATE_TENANT)
    return tenant


def _require_email(email: str) -> None:
    try:
        validate_email(email)
    except ValidationError as exc:
        raise Invalid("This is not an e-mail address.", code="email-invalid") from exc


def _record(tenant: Tenant, type: Activity.Type) -> None:
    record_activity(
        tenant_id=tenant.pk, type=type, subject_type="tenant", subject_id=tenant.pk
    )
