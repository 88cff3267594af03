"""Tenants, their activity log, messages and confirmed addresses."""

from tenants.models.auth_events import UsedAuthEvent
from tenants.models.confirmations import EmailConfirmation, EmailConfirmationQuerySet
from tenants.models.tenants import (
    Activity,
    Notice,
    NoticeQuerySet,
    Tenant,
    TenantQuerySet,
    default_give_up_at,
    validate_pubkey,
    validate_time_zone,
)

__all__ = [
    "Activity",
    "EmailConfirmation",
    "EmailConfirmationQuerySet",
    "Notice",
    "NoticeQuerySet",
    "Tenant",
    "TenantQuerySet",
    "UsedAuthEvent",
    "default_give_up_at",
    "validate_pubkey",
    "validate_time_zone",
]
