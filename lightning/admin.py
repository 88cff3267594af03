from datetime import datetime

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from caravel.core.admin import ReadOnlyAdmin, counted
from lightning.models import LightningInvoice, NwcPayment, WalletProof
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
    actions = ("poll_now",)

    @admin.display(description="unpaid for certain from")
    def final_from(self, invoice: LightningInvoice) -> datetime:
        return invoice.final_at

    @admin.action(description="Poll our wallet now", permissions=["operate"])
    def poll_now(
        self, request: HttpRequest, queryset: QuerySet[LightningInvoice]
    ) -> None:
        hashes = list(queryset.values_list("payment_hash", flat=True))
        for payment_hash in hashes:
            check_payment_hashes.delay_on_commit([payment_hash])
        self.message_user(
            request, f"Enqueued the polling of {counted(len(hashes), 'invoice')}."
        )


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
    actions = ("resume",)

    @admin.action(
        description="Resume: send now, or poll our wallet", permissions=["operate"]
    )
    def resume(self, request: HttpRequest, queryset: QuerySet[NwcPayment]) -> None:
        """Send requests that were never sent; poll our wallet for the others."""
        pending = list(
            queryset.filter(state=NwcPayment.State.PENDING).select_related("invoice")
        )
        for payment in pending:
            run_nwc_payment.delay_on_commit(payment.pk)
        hashes = [p.invoice.payment_hash for p in pending if p.request_event_id]
        for payment_hash in hashes:
            check_payment_hashes.delay_on_commit([payment_hash])
        self.message_user(request, f"Enqueued {counted(len(pending), 'payment')}.")


@admin.register(WalletProof)
class WalletProofAdmin(ReadOnlyAdmin):
    list_display = ("wallet_pubkey", "state", "network", "reason", "due_at", "ended_at")
    fields = (
        *list_display,
        "payment_hash",
        "started_at",
        "expires_at",
        "answer_before",
        "answer_after",
    )
    readonly_fields = fields
    list_filter = ("state",)
    search_fields = ("wallet_pubkey",)
