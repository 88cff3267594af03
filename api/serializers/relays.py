from typing import Any

from django.conf import settings
from rest_framework import serializers

from api.lists import ListQuerySerializer, order_field
from api.serializers.base import StrictSerializer
from billing.services.subscriptions.previews import Cost
from billing.services.subscriptions.quotes import in_sats
from relays.models import Relay, RelayExport
from relays.services.fields import EDITABLE
from relays.services.roles import MAX_KEYS


class RelaySerializer(serializers.ModelSerializer[Relay]):
    tenant = serializers.CharField(source="tenant_id")
    plan = serializers.CharField(source="plan_id")
    url = serializers.SerializerMethodField(
        help_text="WebSocket URL for Nostr clients."
    )
    synced = serializers.BooleanField(
        help_text="Whether the relay server shows the latest configuration."
    )
    sync_error = serializers.CharField(help_text="Reason why not; empty if none.")
    served_at = serializers.DateTimeField(
        allow_null=True, help_text="When it was last seen running."
    )
    dark_at = serializers.DateTimeField(
        allow_null=True, help_text="When it was last seen switched off."
    )
    first_served_at = serializers.DateTimeField(
        allow_null=True,
        help_text="When it was first seen running: on a paid plan, it is not billed "
        "before.",
    )
    billed = serializers.SerializerMethodField(
        help_text="Whether the subscription contains it."
    )
    unbilled_reason = serializers.ChoiceField(
        Relay.Unbilled.choices,
        allow_blank=True,
        help_text="Why not; empty if it is billed.",
    )
    people = serializers.IntegerField(
        allow_null=True,
        help_text="Members without the owner, admins and moderators, when last "
        "counted; null before.",
    )
    over_limit_since = serializers.DateTimeField(
        allow_null=True,
        help_text="Since when it has more people than its plan allows.",
    )
    delinquent_since = serializers.DateTimeField(
        allow_null=True, help_text="Since when billing has switched it off."
    )
    export_offer_at = serializers.DateTimeField(
        allow_null=True,
        help_text="When the owner is offered an export, if it stays switched off.",
    )
    deletion_at = serializers.DateTimeField(
        allow_null=True,
        help_text="When it is deleted if it stays switched off; never earlier.",
    )

    class Meta:
        model = Relay
        fields = (
            "id",
            "tenant",
            "url",
            "plan",
            "status",
            *EDITABLE,
            "synced",
            "sync_error",
            "served_at",
            "dark_at",
            "first_served_at",
            "billed",
            "unbilled_reason",
            "people",
            "over_limit_since",
            "delinquent_since",
            "export_offer_at",
            "deletion_at",
            "created_at",
        )

    def get_url(self, relay: Relay) -> str:
        scheme = "wss" if settings.APP_URL.startswith("https:") else "ws"
        return f"{scheme}://{relay.subdomain}.{settings.RELAY_DOMAIN}"

    def get_billed(self, relay: Relay) -> bool:
        return not relay.unbilled_reason


class RelayUpdateSerializer(StrictSerializer):
    """Fields of a relay to update; omitted fields keep their values."""

    subdomain = serializers.CharField(
        max_length=63, help_text="One DNS label: letters, digits and hyphens."
    )
    plan = serializers.CharField(max_length=32, help_text="Plan id.")
    name = serializers.CharField(required=False, allow_blank=True, max_length=100)
    icon = serializers.URLField(required=False, allow_blank=True, max_length=500)
    description = serializers.CharField(
        required=False, allow_blank=True, max_length=1000
    )
    public_join = serializers.BooleanField(required=False)
    strip_signatures = serializers.BooleanField(required=False)
    groups_enabled = serializers.BooleanField(required=False)
    management_enabled = serializers.BooleanField(required=False)
    push_enabled = serializers.BooleanField(required=False)
    blossom_enabled = serializers.BooleanField(
        required=False, help_text="Only if the plan includes it."
    )
    livekit_enabled = serializers.BooleanField(
        required=False, help_text="Only if the plan includes it."
    )
    members_can_invite = serializers.BooleanField(required=False)
    # No max_length: the service refuses a list that is too long, with the same code as
    # other invalid roles.
    admins = serializers.ListField(
        child=serializers.CharField(),
        required=False,
        help_text="Keys, hex or npub, that may manage the relay and invite members; "
        f"at most {MAX_KEYS}. The owner needs no role.",
    )
    moderators = serializers.ListField(
        child=serializers.CharField(),
        required=False,
        help_text=f"Keys, hex or npub, that may invite members; at most {MAX_KEYS}.",
    )


class RelayChangeSerializer(RelayUpdateSerializer):
    quote = serializers.CharField(
        required=False,
        max_length=500,
        help_text="Id of a quote for this plan: another amount is refused.",
    )


class QuoteQuerySerializer(serializers.Serializer[Any]):
    plan = serializers.CharField(max_length=32, help_text="Id of the new plan.")


class QuoteLineSerializer(serializers.Serializer[Any]):
    description = serializers.CharField()
    amount_cents = serializers.IntegerField(help_text="With discounts and taxes.")


class QuoteCostSerializer(serializers.Serializer[Any]):
    """An amount with its lines."""

    amount_cents = serializers.IntegerField(help_text="Negative for a credit.")
    amount_sats = serializers.SerializerMethodField(
        help_text="The same at the present rate; null for a credit or without a rate."
    )
    at = serializers.DateTimeField(
        allow_null=True,
        help_text="When it is invoiced; null if there is nothing to invoice, or if "
        "the subscription has not begun.",
    )
    lines = QuoteLineSerializer(many=True)

    def get_amount_sats(self, cost: Cost) -> int | None:
        return in_sats(cost.amount_cents, self.context["currency"])


class QuoteSerializer(serializers.Serializer[Any]):
    """The cost of a change of plan."""

    id = serializers.CharField(help_text="To be sent with the change of plan.")
    relay = serializers.UUIDField(source="relay_id")
    plan = serializers.CharField(source="plan_id")
    currency = serializers.CharField(source="preview.currency")
    now = QuoteCostSerializer(
        source="preview.now",
        help_text="For the rest of the current period, or for the first period of a "
        "new subscription. If the change ends the subscription, its final invoice.",
    )
    renewal = QuoteCostSerializer(
        source="preview.renewal",
        help_text="For each period from the next renewal on, for all relays.",
    )
    starts_when_served = serializers.BooleanField(
        help_text="Whether nothing is due yet: the relay was never seen running."
    )
    expires_at = serializers.DateTimeField()


class RelayCreateSerializer(RelayUpdateSerializer):
    """Fields of a new relay; omitted ones get their defaults."""

    tenant = serializers.CharField(
        required=False,
        max_length=64,
        help_text="Owner's pubkey, hex or npub; defaults to the caller.",
    )


class RelayListQuerySerializer(ListQuerySerializer):
    order = order_field("created_at", "subdomain")
    status = serializers.ChoiceField(Relay.Status.choices, required=False)
    plan = serializers.CharField(required=False, max_length=32)


class AllRelaysQuerySerializer(RelayListQuerySerializer):
    tenant = serializers.CharField(
        required=False,
        max_length=64,
        help_text="Only relays of this tenant, hex or npub.",
    )


# Not `Members`: a generated Python class cannot have a field of its own name.
class RelayMembersSerializer(serializers.Serializer[Any]):
    members = serializers.ListField(
        child=serializers.CharField(), help_text="Hex pubkeys."
    )


class RelayExportSerializer(serializers.ModelSerializer[RelayExport]):
    id = serializers.IntegerField()
    relay = serializers.UUIDField(source="relay_id")
    events = serializers.IntegerField(help_text="Number of events until now.")
    size_bytes = serializers.IntegerField(help_text="Size of the file until now.")
    gaps = serializers.IntegerField(
        help_text="Places where the relay may have more events than it has shown."
    )
    reached_at = serializers.DateTimeField(
        allow_null=True,
        help_text="Time of the oldest events until now; null unless it is running.",
    )
    error = serializers.CharField(
        source="failure", help_text="Why it failed; empty if it has not."
    )

    class Meta:
        model = RelayExport
        fields = (
            "id",
            "relay",
            "state",
            "events",
            "size_bytes",
            "gaps",
            "reached_at",
            "error",
            "created_at",
            "finished_at",
            "expires_at",
        )


class RelayExportListQuerySerializer(ListQuerySerializer):
    order = serializers.ChoiceField(
        ["-created_at", "created_at"], required=False, default="-created_at"
    )
