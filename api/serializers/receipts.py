from typing import Any

from rest_framework import serializers

from billing.models import InvoiceCollection


class RateSourceSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    price = serializers.CharField(help_text="What it asked for one bitcoin.")
    as_of = serializers.CharField()


class ProofSerializer(serializers.Serializer[Any]):
    """A Lightning payment, which anybody can check.

    The SHA-256 of `preimage` is `payment_hash`; `bolt11`, signed by the node that
    received it, names that hash and the amount.
    """

    payment_hash = serializers.CharField()
    preimage = serializers.CharField(help_text="In hex, or nothing if it is not known.")
    bolt11 = serializers.CharField()
    amount_cents = serializers.IntegerField(help_text="What the bolt11 was for.")
    paid_cents = serializers.IntegerField(
        help_text="What of the invoice it paid; the rest of it became credit."
    )
    amount_msat = serializers.IntegerField(help_text="What it asked for.")
    received_msat = serializers.IntegerField(
        allow_null=True, help_text="What arrived, if it is known."
    )
    rate = serializers.CharField(help_text="The price of one bitcoin in `currency`.")
    rate_sources = RateSourceSerializer(many=True)


class EventSerializer(serializers.Serializer[Any]):
    """A Nostr event (NIP-01)."""

    id = serializers.CharField()
    pubkey = serializers.CharField()
    created_at = serializers.IntegerField()
    kind = serializers.IntegerField()
    tags = serializers.ListField(
        child=serializers.ListField(child=serializers.CharField(allow_blank=True))
    )
    content = serializers.CharField()
    sig = serializers.CharField()


class ReceiptSerializer(serializers.Serializer[Any]):
    """A receipt; amounts are in the currency's smallest unit."""

    invoice = serializers.CharField(source="invoice_id", help_text="Stripe's id.")
    number = serializers.CharField(help_text="Stripe's number of it.")
    tenant = serializers.CharField(source="tenant_pubkey")
    npub = serializers.CharField(source="tenant_npub")
    currency = serializers.CharField()
    total_cents = serializers.IntegerField()
    paid_cents = serializers.IntegerField(help_text="What came as money.")
    credit_cents = serializers.IntegerField(help_text="What credit made up for.")
    paid_at = serializers.DateTimeField()
    paid_by = serializers.ChoiceField(
        InvoiceCollection.PaidBy.choices,
        help_text="What the money came by, or the last of it.",
    )
    lightning = ProofSerializer(allow_null=True)
    event = EventSerializer(
        source="signed",
        help_text="The same facts, signed by the service's key (kind 30078): what "
        "`content` says is what it states.",
    )
