"""The form of a relay in the admin."""

from typing import Any

from django import forms
from django.conf import settings
from django.forms import ModelForm
from unfold.widgets import UnfoldAdminTextareaWidget

from relays.exceptions import InvalidRole
from relays.models import Relay
from relays.services.fields import FEATURES
from relays.services.roles import MAX_KEYS, ROLES, parse_keys, require_distinct


class KeysField(forms.CharField):
    """Public keys, hex or npub, separated by spaces, commas or new lines."""

    widget = UnfoldAdminTextareaWidget

    def to_python(self, value: Any) -> Any:
        try:
            return parse_keys((value or "").replace(",", " ").split())
        except InvalidRole as exc:
            raise forms.ValidationError(exc.message, code=exc.code) from exc

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(self.to_python(data) != (initial or []))
        except forms.ValidationError:
            return True


class RelayForm(ModelForm[Relay]):
    admins = KeysField(
        required=False,
        help_text=f"At most {MAX_KEYS} public keys, hex or npub, that may manage the "
        "relay and invite members. The owner needs no role.",
    )
    moderators = KeysField(
        required=False,
        help_text=f"At most {MAX_KEYS} public keys, hex or npub, that may invite "
        "members.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "subdomain" in self.fields:
            self.fields[
                "subdomain"
            ].help_text = f"The name before .{settings.RELAY_DOMAIN}"

    def clean(self) -> dict[str, Any]:
        """Report a switch that the plan does not include as an error of its field."""
        cleaned: dict[str, Any] = super().clean() or {}
        plan = cleaned.get("plan")
        for switch, feature in FEATURES.items():
            # Not for a switch that was on before: `change_plan` turns it off.
            switched_on = cleaned.get(switch) and switch in self.changed_data
            if plan and switched_on and not getattr(plan, feature):
                self.add_error(switch, f"The plan {plan} does not include {feature}.")
        self._check_roles(cleaned)
        self._check_subdomain(cleaned)
        return cleaned

    # The services check these, too, but their errors lose what was typed.

    def _check_roles(self, cleaned: dict[str, Any]) -> None:
        tenant = cleaned.get("tenant")
        owner = tenant.pk if tenant else self.instance.tenant_id
        roles = {name: cleaned.get(name) or [] for name in ROLES}
        try:
            require_distinct(Relay(tenant_id=owner, **roles))
        except InvalidRole as exc:
            place = "admins" if owner in roles["admins"] else "moderators"
            self.add_error(place, exc.message)

    def _check_subdomain(self, cleaned: dict[str, Any]) -> None:
        others = Relay.objects.existing().exclude(pk=self.instance.pk)
        if others.filter(subdomain__iexact=cleaned.get("subdomain", "")).exists():
            self.add_error("subdomain", "This subdomain is taken.")
