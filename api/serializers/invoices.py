from datetime import datetime
from typing import Any

from rest_framework import serializers

from api.lists import ListQuerySerializer
from billing.models import InvoiceCollection
from billing.services.invoice_views.invoices import InvoiceDetails
from lightning.models import LightningInvoice
from lightning.services.invoices import reissue_at


class LineSerializer(serializers.Serializer[Any]):
    description = serializers.CharField()
    plan = serializers.CharField(help_text="Name of the plan; empty if none.")
    amount_cents = serializers.IntegerField()
    quantity = serializers.IntegerField(help_text="Number of relays.")
    period_start = serializers.DateTimeField()
    period_end = serializers.DateTimeField()


class WaitingSerializer(serializers.Serializer[Any]):
    why = serializers.CharField(source="reason")
    until = serializers.DateTimeField(allow_null=True)


class CollectionSerializer(serializers.Serializer[Any]):
    """Progress of collecting an invoice."""

    state = serializers.ChoiceField(InvoiceCollection.State.choices)
    hold = serializers.ChoiceField(
        InvoiceCollection.Hold.choices,
        help_text="What keeps it from being finalized or owed at Stripe; else empty.",
    )
    paid_by = serializers.ChoiceField(
        InvoiceCollection.PaidBy.choices, help_text="Empty until paid."
    )
    suspend_at = serializers.DateTimeField(
        allow_null=True,
        help_text="If still unpaid then, relays on paid plans are suspended.",
    )
    next_try_at = serializers.DateTimeField(
        allow_null=True,
        help_text="Next automatic attempt by wallet or card, if any is connected.",
    )
    waiting = WaitingSerializer(
        allow_null=True, help_text="Pending payment that blocks all others."
    )
    lightning_until = serializers.DateTimeField(
        source="lightning.until",
        allow_null=True,
        help_text="Latest time at which an issued Lightning invoice may be paid; null "
        "if there is none, or if it is unknown.",
    )
    owed_cents = serializers.IntegerField(
        help_text="Amount to pay now: what remains, and `dispute_debt_cents`."
    )
    dispute_debt_cents = serializers.IntegerField(
        help_text="Disputed money of a paid invoice that is to be paid again."
    )
    refunded_cents = serializers.IntegerField(help_text="Amount that was refunded.")
    payment_url = serializers.URLField(
        allow_null=True,
        help_text="Payment page without a login, and the receipt once paid; null if "
        "there is nothing to pay and nothing was paid.",
    )


class InvoiceSerializer(serializers.Serializer[Any]):
    """A Stripe invoice and its current `collection`.

    Stripe's part is up to 30 seconds old, and older while Stripe is unavailable.
    Amounts are in the currency's smallest unit.
    """

    id = serializers.CharField(help_text="Stripe invoice id.")
    tenant = serializers.CharField(source="tenant_pubkey")
    number = serializers.CharField()
    status = serializers.ChoiceField(InvoiceCollection.Status.choices)
    currency = serializers.CharField()
    total_cents = serializers.IntegerField()
    amount_due_cents = serializers.IntegerField()
    amount_paid_cents = serializers.IntegerField()
    amount_remaining_cents = serializers.IntegerField()
    created_at = serializers.DateTimeField()
    finalized_at = serializers.DateTimeField(allow_null=True)
    due_at = serializers.DateTimeField(allow_null=True)
    paid_at = serializers.DateTimeField(allow_null=True)
    period_start = serializers.DateTimeField(allow_null=True)
    period_end = serializers.DateTimeField(allow_null=True)
    hosted_invoice_url = serializers.SerializerMethodField(
        help_text="Stripe's page for the invoice; empty while a payment is pending."
    )
    lines = LineSerializer(many=True)
    has_more_lines = serializers.BooleanField(
        help_text="Whether `lines` has only the first ten, as in lists."
    )
    collection = CollectionSerializer(
        allow_null=True, help_text="Null if this service does not collect the invoice."
    )

    def get_hosted_invoice_url(self, details: InvoiceDetails) -> str:
        # Stripe's page does not know about our attempts: the payer could use a card
        # there while a wallet pays the same invoice.
        collection = details.collection
        is_blocked = collection and (collection.waiting or collection.lightning)
        return "" if is_blocked else details.hosted_url


class InvoiceListQuerySerializer(ListQuerySerializer):
    status = serializers.ChoiceField(InvoiceCollection.Status.choices, required=False)


class Bolt11Serializer(serializers.ModelSerializer[LightningInvoice]):
    """A Lightning invoice for the open amount of a Stripe invoice."""

    invoice = serializers.CharField(source="stripe_invoice_id")
    amount_msat = serializers.IntegerField(help_text="Amount in millisatoshis.")
    amount_cents = serializers.IntegerField(help_text="Amount in `currency`.")
    rate = serializers.SerializerMethodField(
        help_text="Price of one bitcoin in `currency`."
    )
    fresh_at = serializers.SerializerMethodField(
        help_text="Earliest time for a new one if this one expires unpaid."
    )

    class Meta:
        model = LightningInvoice
        fields = (
            "invoice",
            "bolt11",
            "payment_hash",
            "amount_msat",
            "amount_cents",
            "currency",
            "rate",
            "issued_at",
            "expires_at",
            "fresh_at",
        )

    def get_rate(self, row: LightningInvoice) -> str:
        # "f": normalize() alone turns 60000 into 6E+4.
        return format(row.rate.normalize(), "f")

    def get_fresh_at(self, row: LightningInvoice) -> datetime:
        return reissue_at(row)
