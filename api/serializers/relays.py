from typing import Any

from django.conf import settings
from rest_framework import serializers

from api.lists import ListParams, ordered_by
from api.serializers.base import StrictSerializer
from relays.models import Relay
from relays.services.lifecycle import EDITABLE


class RelaySerializer(serializers.ModelSerializer[Relay]):
    tenant = serializers.CharField(source="tenant_id")
    plan = serializers.CharField(source="plan_id")
    url = serializers.SerializerMethodField(help_text="Where Nostr clients find it.")
    synced = serializers.BooleanField(
        help_text="Whether the server that runs it knows the last change."
    )
    sync_error = serializers.CharField(help_text="Why it does not yet, or nothing.")

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
    """Text and switches as they are to be; what is left out stays."""

    subdomain = serializers.CharField(
        max_length=63, help_text="Letters, digits and hyphens: a label of the domain."
    )
    plan = serializers.CharField(max_length=32, help_text="The id of a plan.")
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
        required=False, help_text="Only with a plan that carries it."
    )
    livekit_enabled = serializers.BooleanField(
        required=False, help_text="Only with a plan that carries it."
    )


class RelayCreateSerializer(RelayUpdateSerializer):
    """A relay as it is to be; what is left out is as usual."""

    tenant = serializers.CharField(
        required=False,
        max_length=64,
        help_text="Whose it will be, by hex or npub; the caller's if not given.",
    )


class RelayListParams(ListParams):
    order = ordered_by("created_at", "subdomain")
    status = serializers.ChoiceField(Relay.Status.choices, required=False)
    plan = serializers.CharField(required=False, max_length=32)


class AllRelaysParams(RelayListParams):
    tenant = serializers.CharField(
        required=False, max_length=64, help_text="Only this tenant's, by hex or npub."
    )


class MembersSerializer(serializers.Serializer[Any]):
    members = serializers.ListField(
        child=serializers.CharField(), help_text="Their public keys in hex."
    )
