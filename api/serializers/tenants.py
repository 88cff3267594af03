from typing import Any

from rest_framework import serializers

from api.lists import ListParams, ordered_by
from api.serializers.base import StrictSerializer
from billing.services.invoices.payment_link import oldest_unpaid_link
from tenants.models import Activity, Tenant


class IdentitySerializer(serializers.Serializer[Any]):
    """Who signed the request."""

    pubkey = serializers.CharField(help_text="The public key in hex.")
    npub = serializers.CharField()
    is_admin = serializers.BooleanField(help_text="Whether it is an operator's key.")
    is_tenant = serializers.BooleanField(help_text="Whether it has an account.")


class WalletSerializer(serializers.Serializer[Tenant]):
    """The wallet that pays over Nostr Wallet Connect; its address is never told."""

    connected = serializers.BooleanField(source="has_wallet")
    alias = serializers.CharField(
        source="wallet_alias", help_text="What the wallet calls itself."
    )
    host = serializers.CharField(
        source="wallet_hosts", help_text="The relays on which it is asked."
    )
    error = serializers.CharField(
        source="nwc_error", help_text="Why it did not pay the last time, or nothing."
    )


class TenantSerializer(serializers.ModelSerializer[Tenant]):
    npub = serializers.CharField()
    wallet = WalletSerializer(source="*")

    class Meta:
        model = Tenant
        fields: tuple[str, ...] = (
            "pubkey",
            "npub",
            "display_name",
            "email",
            "wallet",
            "autopay_paused",
            "dunning_exempt",
            "past_due_at",
            "payment_overdue_since",
            "created_at",
            "closed_at",
        )


class TenantDetailSerializer(TenantSerializer):
    payment_url = serializers.SerializerMethodField(
        help_text="Where the oldest unpaid invoice is paid, without a login; or null."
    )

    class Meta(TenantSerializer.Meta):
        fields = (*TenantSerializer.Meta.fields, "payment_url")

    def get_payment_url(self, tenant: Tenant) -> str | None:
        return oldest_unpaid_link(tenant.pk)


class TenantUpdateSerializer(StrictSerializer):
    """What is to be another; what is left out stays."""

    email = serializers.EmailField(
        required=False,
        allow_blank=True,
        max_length=254,
        help_text="Notices go there as well; blank for none.",
    )
    nwc_url = serializers.CharField(
        required=False,
        allow_blank=True,
        max_length=2000,
        write_only=True,
        help_text="`nostr+walletconnect://…` of a wallet that may pay invoices. It "
        "must answer within half a minute. Blank disconnects it.",
    )
    autopay_paused = serializers.BooleanField(
        required=False, help_text="Charge neither wallet nor card by ourselves."
    )
    dunning_exempt = serializers.BooleanField(
        required=False, help_text="Never suspend its relays (operators only)."
    )


class TenantListParams(ListParams):
    order = ordered_by("created_at")
    closed = serializers.BooleanField(
        required=False,
        default=None,
        allow_null=True,
        help_text="Only (not) closed ones.",
    )
    owing = serializers.BooleanField(
        required=False,
        default=None,
        allow_null=True,
        help_text="Only those with (without) an overdue payment.",
    )


class ActivitySerializer(serializers.ModelSerializer[Activity]):
    tenant = serializers.CharField(source="tenant_id")
    snapshot = serializers.DictField(
        child=serializers.CharField(), help_text="What it was after the change."
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


class ActivityListParams(ListParams):
    order = serializers.ChoiceField(["-id", "id"], required=False, default="-id")
    type = serializers.ChoiceField(Activity.Type.choices, required=False)


class PortalSessionRequest(StrictSerializer):
    """Where to go on from Stripe's page."""

    return_url = serializers.URLField(
        required=False,
        max_length=2000,
        help_text="Where Stripe's page leads back to: on our own address, or on that "
        "of an application that may call this API.",
    )


class PortalSessionSerializer(serializers.Serializer[Any]):
    url = serializers.URLField(
        help_text="Stripe's page for cards and invoices; whoever opens it is in, so "
        "open it at once and keep it nowhere."
    )
