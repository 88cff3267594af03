from typing import Any

from django.conf import settings
from rest_framework import serializers

from api.lists import ListQuerySerializer, order_field
from api.serializers.base import StrictSerializer
from relays.models import Relay
from relays.services.lifecycle import EDITABLE


class RelaySerializer(serializers.ModelSerializer[Relay]):
    tenant = serializers.CharField(source="tenant_id")
    plan = serializers.CharField(source="plan_id")
    url = serializers.SerializerMethodField(
        help_text="WebSocket URL for Nostr clients."
    )
    synced = serializers.BooleanField(
        help_text="Whether the relay server has the latest configuration."
    )
    sync_error = serializers.CharField(help_text="Reason why not; empty if none.")

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
            "created_at",
        )

    def get_url(self, relay: Relay) -> str:
        scheme = "wss" if settings.APP_URL.startswith("https:") else "ws"
        return f"{scheme}://{relay.subdomain}.{settings.RELAY_DOMAIN}"


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
