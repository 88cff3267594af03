from datetime import datetime
from typing import Any

from rest_framework import serializers

from api.lists import ListParams
from billing.models import InvoiceCollection
from billing.services.invoice_views.invoices import InvoiceDetails
from lightning.models import LightningInvoice
from lightning.services.invoices import fresh_at


class LineSerializer(serializers.Serializer[Any]):
    description = serializers.CharField()
    plan = serializers.CharField(help_text="The name of the plan, or nothing.")
    amount_cents = serializers.IntegerField()
    quantity = serializers.IntegerField(help_text="How many relays.")
    period_start = serializers.DateTimeField()
    period_end = serializers.DateTimeField()


class WaitingSerializer(serializers.Serializer[Any]):
    why = serializers.CharField()
    until = serializers.DateTimeField(allow_null=True)


class CollectionSerializer(serializers.Serializer[Any]):
    """How far the collection of an invoice is."""

    state = serializers.ChoiceField(InvoiceCollection.State.choices)
    paid_by = serializers.ChoiceField(
        InvoiceCollection.PaidBy.choices, help_text="Nothing, while it is not paid."
    )
    suspend_at = serializers.DateTimeField(
        allow_null=True, help_text="Unpaid by then, it suspends the paid relays."
    )
    next_try_at = serializers.DateTimeField(
        allow_null=True,
        help_text="When wallet and card, if there are any, have their next turn.",
    )
    waiting = WaitingSerializer(
        allow_null=True, help_text="What may be paying it just now, so that nobody may."
    )
    lightning_until = serializers.DateTimeField(
        allow_null=True,
        help_text="Until when a Lightning invoice that was issued for it may be paid.",
    )
    payment_url = serializers.URLField(
        allow_null=True,
        help_text="Where it is paid without a login, while there is something to pay.",
    )


class InvoiceSerializer(serializers.Serializer[Any]):
    """An invoice as Stripe has it, a few seconds old, and its collection as it is now.

    Amounts are in the currency's smallest unit.
    """

    id = serializers.CharField(help_text="Stripe's.")
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
        help_text="Stripe's own page of it; nothing while something else may pay it."
    )
    lines = LineSerializer(many=True)
    has_more_lines = serializers.BooleanField(
        help_text="Whether `lines` are only the first ten, as in lists."
    )
    collection = CollectionSerializer(
        allow_null=True, help_text="Null if this service does not collect it."
    )

    def get_hosted_invoice_url(self, view: InvoiceDetails) -> str:
        ours = view.collection
        is_busy = ours is not None and (ours.waiting or ours.lightning_until)
        return "" if is_busy else view.hosted_url


class InvoiceListParams(ListParams):
    status = serializers.ChoiceField(InvoiceCollection.Status.choices, required=False)


class Bolt11Serializer(serializers.ModelSerializer[LightningInvoice]):
    """A Lightning invoice that pays a Stripe invoice, until it expires."""

    invoice = serializers.CharField(source="stripe_invoice_id")
    amount_msat = serializers.IntegerField(help_text="In thousandths of a satoshi.")
    amount_cents = serializers.IntegerField(help_text="What it pays, in `currency`.")
    rate = serializers.SerializerMethodField(
        help_text="The price of one bitcoin in `currency`."
    )
    fresh_at = serializers.SerializerMethodField(
        help_text="When another can be had at the soonest, if this is not paid."
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
        return format(row.rate.normalize(), "f")

    def get_fresh_at(self, row: LightningInvoice) -> datetime:
        return fresh_at(row)
