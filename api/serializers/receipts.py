from typing import Any

from rest_framework import serializers

from billing.models import InvoiceCollection
from billing.services.invoice_views.receipts import Receipt
from billing.services.invoices.payment_link import receipt_pdf_url


class RateSourceSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    price = serializers.CharField(help_text="Its price of one bitcoin in `currency`.")
    as_of = serializers.CharField()


class ProofSerializer(serializers.Serializer[Any]):
    """Proof of a Lightning payment that anyone can check.

    The SHA-256 of `preimage` is `payment_hash`. `bolt11`, signed by the receiving node,
    contains that hash and the amount.
    """

    payment_hash = serializers.CharField()
    preimage = serializers.CharField(help_text="In hex; empty if unknown.")
    bolt11 = serializers.CharField()
    amount_cents = serializers.IntegerField(
        help_text="Amount that the bolt11 was issued for."
    )
    paid_cents = serializers.IntegerField(
        help_text="Part applied to this invoice; the rest became credit."
    )
    amount_msat = serializers.IntegerField(help_text="Amount of the bolt11.")
    received_msat = serializers.IntegerField(
        allow_null=True, help_text="Amount received; null if unknown."
    )
    rate = serializers.CharField(help_text="Price of one bitcoin in `currency`.")
    rate_sources = RateSourceSerializer(many=True)


class SellerSerializer(serializers.Serializer[Any]):
    """The payee of the invoice; all but the name may be empty."""

    name = serializers.CharField()
    address = serializers.CharField()
    tax_id = serializers.CharField(help_text="Number for taxes, with its name.")
    contact = serializers.CharField(help_text="An e-mail address, or a page.")


class EventSerializer(serializers.Serializer[Any]):
    """A Nostr event (NIP-01)."""

    id = serializers.CharField()
    pubkey = serializers.CharField()
    created_at = serializers.IntegerField()
    kind = serializers.IntegerField()
    # NIP-01 allows empty strings in tags.
    tags = serializers.ListField(
        child=serializers.ListField(child=serializers.CharField(allow_blank=True))
    )
    content = serializers.CharField()
    sig = serializers.CharField()


class ReceiptSerializer(serializers.Serializer[Any]):
    """A signed receipt. Amounts are in the currency's smallest unit."""

    seller = SellerSerializer()
    invoice = serializers.CharField(source="invoice_id", help_text="Stripe invoice id.")
    number = serializers.CharField(help_text="Stripe invoice number.")
    tenant = serializers.CharField(source="tenant_pubkey")
    npub = serializers.CharField(source="tenant_npub")
    currency = serializers.CharField()
    total_cents = serializers.IntegerField()
    paid_cents = serializers.IntegerField(help_text="Part paid with money.")
    credit_cents = serializers.IntegerField(help_text="Part covered by credit.")
    refunded_cents = serializers.IntegerField(help_text="Part refunded since.")
    disputed_cents = serializers.IntegerField(
        help_text="Part that the payer's bank took back, and that was not paid again."
    )
    paid_at = serializers.DateTimeField()
    paid_by = serializers.ChoiceField(
        InvoiceCollection.PaidBy.choices,
        help_text="Payment method of the money, or of its last part.",
    )
    lightning = ProofSerializer(allow_null=True)
    pdf_url = serializers.SerializerMethodField(
        help_text="The receipt as a PDF, without a login."
    )
    event = EventSerializer(
        source="signed",
        help_text="The same facts as a Nostr event of kind 30078, signed by the "
        "service's key; `content` has them as JSON.",
    )

    def get_pdf_url(self, receipt: Receipt) -> str:
        return receipt_pdf_url(receipt.invoice_id)
