"""Fields of a relay that its tenant can set, and their validation."""

from collections.abc import Iterable, Mapping
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError

from caravel.core.exceptions import CaravelError, UnknownField
from caravel.core.validation import invalid_field, reject_coercible, validate_fields
from relays import exceptions
from relays.models import Relay
from relays.services.roles import ROLES, parse_keys, require_distinct

#: Fields that a tenant can set, besides the plan.
EDITABLE = (
    "subdomain",
    "name",
    "icon",
    "description",
    "public_join",
    "strip_signatures",
    "groups_enabled",
    "management_enabled",
    "push_enabled",
    "blossom_enabled",
    "livekit_enabled",
    "members_can_invite",
    *ROLES,
)
#: Switches that not every plan includes: the relay's field and the plan's.
FEATURES = {"blossom_enabled": "blossom", "livekit_enabled": "livekit"}

_SUBDOMAIN_ERRORS: dict[str, type[CaravelError]] = {
    "subdomain-invalid": exceptions.InvalidSubdomain,
    "subdomain-reserved": exceptions.ReservedSubdomain,
    "subdomain-exists": exceptions.SubdomainTaken,
}


def set_fields(relay: Relay, fields: Mapping[str, Any]) -> None:
    """Set fields of an instance; roles in hex.

    Raises UnknownField, InvalidRole or FeatureUnavailable.
    """
    if unknown := fields.keys() - set(EDITABLE):
        names = ", ".join(sorted(unknown))
        raise UnknownField(f"A relay has no field {names} to set.")
    # Not for a relay that has it: the operator may have removed the server since.
    if fields.get("livekit_enabled") is True and not relay.livekit_enabled:
        _require_livekit_server()
    for name, value in fields.items():
        setattr(relay, name, parse_keys(value) if name in ROLES else value)


def validate(relay: Relay, fields: Iterable[str]) -> None:
    """Validate an instance of which these fields were set.

    Raises PlanLacksFeature, InvalidSubdomain, ReservedSubdomain, SubdomainTaken,
    InvalidRole, or Invalid for another field.
    """
    for switch, feature in FEATURES.items():
        if getattr(relay, switch) and not getattr(relay.plan, feature):
            message = f"The plan {relay.plan} does not include {feature}."
            raise exceptions.PlanLacksFeature(message)
    # The subdomain separately, since its errors have classes and codes of their own.
    validate_fields(relay, {*fields} - {"subdomain", *ROLES})
    require_distinct(relay)
    reject_coercible(relay, "subdomain")
    try:
        relay.clean_fields(exclude=set(EDITABLE) - {"subdomain"} | {"tenant", "plan"})
        relay.validate_constraints()
    except ValidationError as exc:
        raise _to_domain_error(exc) from exc


def _require_livekit_server() -> None:
    if not settings.LIVEKIT_URL:
        raise exceptions.FeatureUnavailable("There is no server for voice rooms.")


def _to_domain_error(error: ValidationError) -> CaravelError:
    first = next(iter(error.error_dict.values()))[0]
    error_class = _SUBDOMAIN_ERRORS.get(str(first.code))
    return error_class(first.messages[0]) if error_class else invalid_field(error)
