"""Plans, relays, their sync with zooid and exports of their events."""

from relays.models.exports import RelayExport, RelayExportPart, RelayExportQuerySet
from relays.models.plans import Plan, PlanQuerySet
from relays.models.relays import (
    RESERVED_SUBDOMAINS,
    SUBDOMAIN_PATTERN,
    Relay,
    RelayQuerySet,
    validate_subdomain,
)
from relays.models.syncs import RelaySync, RelaySyncQuerySet

__all__ = [
    "RESERVED_SUBDOMAINS",
    "SUBDOMAIN_PATTERN",
    "Plan",
    "PlanQuerySet",
    "Relay",
    "RelayExport",
    "RelayExportPart",
    "RelayExportQuerySet",
    "RelayQuerySet",
    "RelaySync",
    "RelaySyncQuerySet",
    "validate_subdomain",
]
