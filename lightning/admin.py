from datetime import datetime

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from caravel.core.admin import ReadOnlyAdmin
from lightning.models import LightningInvoice, NwcPayment
from lightning.tasks import check_payment_hashes, run_nwc_payment
from tenants.admin import NpubSearchAdmin


@admin.register(LightningInvoice)
class LightningInvoiceAdmin(NpubSearchAdmin, ReadOnlyAdmin):
    list_display = (
        "payment_hash",
        "state",
        "tenant",
        "stripe_invoice_id",
        "amount_msat",
        "expires_at",
        "shown_at",
        "answered_at",
    )
    fields = (
        *list_display,
        "amount_cents",
        "currency",
        "rate",
        "rate_sources",
        "bolt11",
        "wallet_pubkey",
        "issued_at",
        "final_from",
        "settled_at",
        "received_msat",
        "failures",
        "last_error",
        "next_attempt_at",
    )
    readonly_fields = fields
    list_filter = ("state", "last_error_code", "currency")
    search_fields = ("payment_hash", "stripe_invoice_id", "tenant__pubkey", "bolt11")
    list_select_related = ("tenant",)
    actions = ("ask_now",)

    @admin.display(description="«not paid» is final from")
    def final_from(self, invoice: LightningInvoice) -> datetime:
        return invoice.final_at

    @admin.action(description="Ask our wallet now", permissions=["operate"])
    def ask_now(
        self, request: HttpRequest, queryset: QuerySet[LightningInvoice]
    ) -> None:
        hashes = list(queryset.values_list("payment_hash", flat=True))
        for payment_hash in hashes:
            check_payment_hashes.delay_on_commit([payment_hash])
        self.message_user(request, f"Enqueued {len(hashes)} questions.")


@admin.register(NwcPayment)
class NwcPaymentAdmin(NpubSearchAdmin, ReadOnlyAdmin):
    list_display = (
        "stripe_invoice_id",
        "state",
        "tenant",
        "code",
        "created_at",
        "sent_at",
        "resolved_at",
    )
    fields = (
        *list_display,
        "message",
        "invoice",
        "wallet_pubkey",
        "client_pubkey",
        "request_event_id",
        "replied_at",
        "failures",
        "last_error",
        "next_attempt_at",
    )
    readonly_fields = fields
    list_filter = ("state", "code")
    search_fields = (
        "stripe_invoice_id",
        "tenant__pubkey",
        "invoice__payment_hash",
        "request_event_id",
    )
    list_select_related = ("tenant",)
    actions = ("go_on",)

    @admin.action(description="Send now, or ask our wallet", permissions=["operate"])
    def go_on(self, request: HttpRequest, queryset: QuerySet[NwcPayment]) -> None:
        """Send what was never sent; of the rest find out how it stands."""
        pending = list(
            queryset.filter(state=NwcPayment.State.PENDING).select_related("invoice")
        )
        for payment in pending:
            run_nwc_payment.delay_on_commit(payment.pk)
        hashes = [p.invoice.payment_hash for p in pending if p.request_event_id]
        for payment_hash in hashes:
            check_payment_hashes.delay_on_commit([payment_hash])
        self.message_user(request, f"Enqueued {len(pending)} payments.")
