from typing import Any

from rest_framework import serializers

from api.lists import ListQuerySerializer, order_field
from api.serializers.base import StrictSerializer
from billing.services.invoices.payment_link import oldest_unpaid_link
from tenants.models import Activity, Tenant


class IdentitySerializer(serializers.Serializer[Any]):
    """The caller's identity."""

    pubkey = serializers.CharField(help_text="Public key in hex.")
    npub = serializers.CharField()
    is_admin = serializers.BooleanField(help_text="Whether this is an operator's key.")
    is_tenant = serializers.BooleanField(help_text="Whether this key has an account.")


class WalletSerializer(serializers.Serializer[Tenant]):
    """The tenant's Nostr Wallet Connect wallet, without its secret URL."""

    connected = serializers.BooleanField(source="has_wallet")
    alias = serializers.CharField(
        source="wallet_alias", help_text="Name reported by the wallet."
    )
    host = serializers.CharField(
        source="wallet_hosts", help_text="Hosts of the relays used to reach the wallet."
    )
    error = serializers.CharField(
        source="nwc_error", help_text="Error of the last payment; empty if none."
    )


class TenantSerializer(serializers.ModelSerializer[Tenant]):
    npub = serializers.CharField()
    email_confirmed = serializers.BooleanField(
        help_text="Whether the address's owner has followed the link sent to it. Until "
        "then it gets nothing else."
    )
    wallet = WalletSerializer(source="*")

    class Meta:
        model = Tenant
        fields: tuple[str, ...] = (
            "pubkey",
            "npub",
            "display_name",
            "email",
            "email_confirmed",
            "payment_notices",
            "time_zone",
            "wallet",
            "autopay_paused",
            "dunning_exempt",
            "past_due_at",
            "payment_overdue_since",
            "billing_on_hold_since",
            "created_at",
            "closed_at",
        )


class TenantDetailSerializer(TenantSerializer):
    payment_url = serializers.SerializerMethodField(
        help_text="Page to pay the oldest unpaid invoice without a login, or null."
    )

    class Meta(TenantSerializer.Meta):
        fields = (*TenantSerializer.Meta.fields, "payment_url")

    def get_payment_url(self, tenant: Tenant) -> str | None:
        return oldest_unpaid_link(tenant.pk)


class TenantUpdateSerializer(StrictSerializer):
    """Fields of a tenant to update; omitted fields keep their values."""

    email = serializers.EmailField(
        required=False,
        allow_blank=True,
        max_length=254,
        help_text="Also receives notices, once its owner has followed the link that is "
        "sent to it (once a week at most; set it again for another link). Empty for "
        "none.",
    )
    payment_notices = serializers.BooleanField(
        required=False, help_text="Send a notice for each payment."
    )
    time_zone = serializers.CharField(
        required=False,
        max_length=64,
        help_text="Time zone of times in notices, such as Europe/Berlin.",
    )
    nwc_url = serializers.CharField(
        required=False,
        allow_blank=True,
        max_length=2000,
        write_only=True,
        help_text="`nostr+walletconnect://…` URL of a wallet that may pay invoices. It "
        "must answer within 30 seconds. An empty string disconnects the wallet.",
    )
    autopay_paused = serializers.BooleanField(
        required=False, help_text="Do not charge wallet or card automatically."
    )
    dunning_exempt = serializers.BooleanField(
        required=False,
        help_text="Never suspend relays for unpaid invoices (operators only).",
    )


class TenantListQuerySerializer(ListQuerySerializer):
    order = order_field("created_at")
    closed = serializers.BooleanField(
        required=False,
        default=None,
        allow_null=True,
        help_text="Only closed accounts, or only open ones.",
    )
    owing = serializers.BooleanField(
        required=False,
        default=None,
        allow_null=True,
        help_text="Only tenants with an overdue payment, or only those without.",
    )


class ActivitySerializer(serializers.ModelSerializer[Activity]):
    tenant = serializers.CharField(source="tenant_id")
    snapshot = serializers.DictField(
        child=serializers.CharField(), help_text="Values after the change."
    )

    class Meta:
        model = Activity
        fields = (
            "id",
            "tenant",
            "type",
            "subject_type",
            "subject_id",
            "snapshot",
            "created_at",
        )


class ActivityListQuerySerializer(ListQuerySerializer):
    order = serializers.ChoiceField(["-id", "id"], required=False, default="-id")
    type = serializers.ChoiceField(Activity.Type.choices, required=False)


class PortalSessionCreateSerializer(StrictSerializer):
    """Options of a Stripe portal session."""

    return_url = serializers.URLField(
        required=False,
        max_length=2000,
        help_text="URL that the portal links back to: on this service, or on an "
        "origin that may call this API.",
    )


class PortalSessionSerializer(serializers.Serializer[Any]):
    url = serializers.URLField(
        help_text="Stripe's customer portal. The URL is the credential: open it at "
        "once and do not store it."
    )
