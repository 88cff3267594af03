from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.options import InlineModelAdmin
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.formats import date_format
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from unfold.admin import StackedInline
from unfold.decorators import action
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget

from caravel.core.admin import ReadOnlyAdmin, counted
from caravel.core.exceptions import CaravelError
from lightning.clients.bolt11 import decode
from lightning.exceptions import InvalidBolt11
from lightning.models import LightningInvoice, NwcPayment, Resolution, WalletProof
from lightning.services import resolutions
from lightning.tasks import check_payment_hashes, run_nwc_payment
from tenants.admin import NpubSearchAdmin


class ResolutionForm(forms.Form):
    """A person's decision whether a Lightning invoice was paid."""

    # Nothing is selected at first: "settled" by mistake cannot be corrected.
    outcome = forms.ChoiceField(
        choices=[("", "Please choose"), *Resolution.Outcome.choices],
        widget=UnfoldAdminSelectWidget,
    )
    reason = forms.CharField(widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}))
    evidence = forms.CharField(
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text=Resolution._meta.get_field("evidence").help_text,
    )


class ResolutionInline(StackedInline):
    model = Resolution
    verbose_name_plural = "decisions of support"
    fields = (
        "created_at",
        "outcome",
        "actor",
        "reason",
        "evidence",
        "receiver_answer",
        "payer_answer",
    )
    readonly_fields = fields
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def _payment_hash(word: str) -> str:
    """Return the payment hash of a bolt11, and any other word as it is."""
    try:
        return decode(word).payment_hash
    except InvalidBolt11:
        return word


def _payment_of(invoice: LightningInvoice) -> NwcPayment | None:
    return NwcPayment.objects.filter(invoice=invoice).first()


@admin.register(LightningInvoice)
class LightningInvoiceAdmin(NpubSearchAdmin, ReadOnlyAdmin):
    list_display = (
        "short_hash",
        "state",
        "contradicted_at",
        "tenant",
        "stripe_invoice_id",
        "amount_msat",
        "expires_at",
        "shown_at",
        "answered_at",
    )
    fields = (
        "payment_hash",
        *list_display[1:],
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
        "receiver_answer",
        "payer_answer",
        "failures",
        "last_error",
        "next_attempt_at",
    )
    readonly_fields = fields
    list_filter = (
        ("contradicted_at", admin.EmptyFieldListFilter),
        "state",
        "last_error_code",
    )
    search_fields = (
        "payment_hash__startswith",
        "stripe_invoice_id__startswith",
        "tenant__pubkey__startswith",
    )
    list_prefetch_related = ("tenant",)
    search_help_text = "Payment hash, bolt11, Stripe invoice or public key"
    actions = ("poll_now",)
    actions_detail = ("resolve",)

    def get_inlines(
        self, request: HttpRequest, obj: LightningInvoice | None
    ) -> list[type[InlineModelAdmin[Any, Any]]]:
        is_decided = obj is not None and obj.resolutions.exists()
        return [ResolutionInline] if is_decided else []

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        """Search also by a bolt11, which contains the payment hash."""
        words = [_payment_hash(word) for word in search_term.split()]
        results: tuple[Any, bool] = super().get_search_results(
            request, queryset, " ".join(words)
        )
        return results

    @admin.display(description="payment hash", ordering="payment_hash")
    def short_hash(self, invoice: LightningInvoice) -> str:
        return f"{invoice.payment_hash[:12]}…"

    @admin.display(description="unpaid for certain from")
    def final_from(self, invoice: LightningInvoice) -> str:
        return date_format(invoice.final_at, "DATETIME_FORMAT")

    @admin.display(description="our wallet's answer")
    def receiver_answer(self, invoice: LightningInvoice) -> str:
        return resolutions.receiver_answer(invoice)

    @admin.display(description="the payer's answer")
    def payer_answer(self, invoice: LightningInvoice) -> str:
        return resolutions.payer_answer(_payment_of(invoice))

    @action(
        description="Decide whether it was paid",
        url_path="resolve",
        permissions=["operate"],
    )
    def resolve(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask for outcome, reason and evidence, and end the invoice by them."""
        invoice = self.get_object(request, object_id)
        if invoice is None:
            raise Http404
        form = ResolutionForm(request.POST or None)
        if form.is_valid() and self._resolve(request, invoice, form):
            return redirect("admin:lightning_lightninginvoice_change", invoice.pk)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"Was {invoice.payment_hash[:12]} paid?",
            "invoice": invoice,
            "answers": (
                ("Our wallet", resolutions.receiver_answer(invoice)),
                ("The payer", resolutions.payer_answer(_payment_of(invoice))),
            ),
            "form": form,
        }
        return render(request, "lightning/resolve.html", context)

    def _resolve(
        self, request: HttpRequest, invoice: LightningInvoice, form: ResolutionForm
    ) -> bool:
        try:
            resolutions.resolve_invoice(
                invoice_id=invoice.pk,
                outcome=Resolution.Outcome(form.cleaned_data["outcome"]),
                reason=form.cleaned_data["reason"],
                evidence=form.cleaned_data["evidence"],
                actor=request.user.get_username(),
            )
        except CaravelError as exc:
            form.add_error(None, exc.message)
            return False
        self.message_user(request, "Your decision has ended the invoice.")
        return True

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
        "wallet_words",
        "invoice",
        "receiver_answer",
        "payer_answer",
        "resolutions",
        "refused_at",
        "proven_at",
        "node_pubkey",
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
        "stripe_invoice_id__startswith",
        "tenant__pubkey__startswith",
        "invoice__payment_hash__startswith",
        "request_event_id__startswith",
    )
    list_prefetch_related = ("tenant",)
    actions = ("resume",)

    @admin.display(description="the wallet's own words (not to be trusted)")
    def wallet_words(self, payment: NwcPayment) -> str:
        return f"“{payment.message}”" if payment.message else ""

    @admin.display(description="our wallet's answer")
    def receiver_answer(self, payment: NwcPayment) -> str:
        return resolutions.receiver_answer(payment.invoice)

    @admin.display(description="the payer's answer")
    def payer_answer(self, payment: NwcPayment) -> str:
        return resolutions.payer_answer(payment)

    @admin.display(description="decided by support")
    def resolutions(self, payment: NwcPayment) -> SafeString:
        rows = Resolution.objects.filter(invoice=payment.invoice_id)
        lines = (
            (f"{row.created_at:%F %T}", row.outcome, row.actor, row.reason)
            for row in rows
        )
        return format_html_join("", "<p>{} {} by {}: {}</p>", lines)

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
    search_fields = ("wallet_pubkey__startswith",)
