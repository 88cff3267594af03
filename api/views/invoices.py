from rest_framework.request import Request
from rest_framework.response import Response

from api.access import invoice_for, tenant_for
from api.exceptions import STRIPE, WALLET
from api.lists import paginate_after
from api.schema import describe
from api.serializers import invoices as forms
from api.serializers.base import EmptySerializer
from api.serializers.receipts import ReceiptSerializer
from api.views.base import ApiView
from billing.exceptions import (
    Bolt11NotOpen,
    InvoiceChanged,
    InvoiceNotOpen,
    InvoiceNotPaid,
    UnknownInvoice,
)
from billing.services.invoice_views import invoices
from billing.services.invoice_views.receipts import build_receipt
from billing.services.payment_page.bolt11 import current_bolt11, get_or_issue_bolt11
from caravel.core.web.envelope import success
from caravel.core.web.permissions import IsAuthenticated
from caravel.core.web.throttling import Overloaded
from lightning import exceptions as lightning
from tenants.exceptions import UnknownTenant


class TenantInvoicesView(ApiView):
    permission_classes = [IsAuthenticated]

    @describe(
        "List a tenant's invoices",
        answer=forms.InvoiceSerializer,
        many=True,
        query=forms.InvoiceListParams,
        errors=[UnknownTenant, *STRIPE, Overloaded],
    )
    def get(self, request: Request, pubkey: str) -> Response:
        """Stripe's invoices, the newest first, and how far their collection is."""
        params = self.params(forms.InvoiceListParams)
        tenant = tenant_for(self.caller, pubkey)
        with self.concurrency_limit():
            rows = invoices.list_invoices(tenant)
        if "status" in params:
            rows = [row for row in rows if row.status == params["status"]]
        after, limit = params.get("cursor"), params["limit"]
        return paginate_after(
            request, rows, forms.InvoiceSerializer, after=after, limit=limit
        )


class InvoiceDetailView(ApiView):
    """A view of one invoice, for whose it is."""

    permission_classes = [IsAuthenticated]

    def invoice(self, invoice_id: str) -> invoices.InvoiceDetails:
        """Return the invoice. Raises UnknownInvoice, a StripeError or Busy."""
        with self.concurrency_limit():
            return invoice_for(self.caller, invoice_id)


class InvoiceView(InvoiceDetailView):
    @describe(
        "Get an invoice",
        answer=forms.InvoiceSerializer,
        errors=[UnknownInvoice, *STRIPE, Overloaded],
    )
    def get(self, request: Request, invoice_id: str) -> Response:
        """One invoice by Stripe's id."""
        self.forbid_query()
        found = self.invoice(invoice_id)
        return success(forms.InvoiceSerializer(found).data)


class Bolt11View(InvoiceDetailView):
    costly = frozenset({"POST"})

    @describe(
        "Get the open Lightning invoice",
        answer=forms.Bolt11Serializer,
        errors=[UnknownInvoice, Bolt11NotOpen, *STRIPE, Overloaded],
    )
    def get(self, request: Request, invoice_id: str) -> Response:
        """The one that was asked for and can still be paid; none is issued by this."""
        self.forbid_query()
        found = self.invoice(invoice_id)
        return success(forms.Bolt11Serializer(current_bolt11(found.id)).data)

    @describe(
        "Issue a Lightning invoice",
        answer=forms.Bolt11Serializer,
        body=EmptySerializer,
        errors=[
            UnknownInvoice,
            InvoiceNotOpen,
            InvoiceChanged,
            lightning.PaymentInProgress,
            lightning.AlreadySettled,
            *STRIPE,
            *WALLET,
            Overloaded,
        ],
    )
    def post(self, request: Request, invoice_id: str) -> Response:
        """A bolt11 over what is left to pay: the open one, or one at today's price.

        While something else may pay the invoice it is refused, with the time `until`
        when that is decided at the latest.
        """
        self.given(EmptySerializer)
        found = self.invoice(invoice_id)
        with self.concurrency_limit():
            offered = get_or_issue_bolt11(invoice_id=found.id)
        return success(forms.Bolt11Serializer(offered).data)


class ReceiptView(InvoiceDetailView):
    @describe(
        "Get a receipt",
        answer=ReceiptSerializer,
        errors=[UnknownInvoice, InvoiceNotPaid, *STRIPE, Overloaded],
    )
    def get(self, request: Request, invoice_id: str) -> Response:
        """What proves to anybody that an invoice was paid.

        `event` is the receipt signed by this service's key. Of a Lightning payment the
        SHA-256 of `preimage` is `payment_hash`, which is that of `bolt11`: only who has
        paid it, or was shown this, can know the preimage.
        """
        self.forbid_query()
        found = self.invoice(invoice_id)
        with self.concurrency_limit():
            receipt = build_receipt(found.id)
        return success(ReceiptSerializer(receipt).data)
