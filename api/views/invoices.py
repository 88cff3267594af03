from rest_framework.request import Request
from rest_framework.response import Response

from api.access import invoice_for, tenant_for
from api.exceptions import STRIPE_ERRORS, WALLET_ERRORS
from api.lists import paginate_after
from api.schema import describe
from api.serializers import invoices as serializers
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
        response=serializers.InvoiceSerializer,
        many=True,
        query=serializers.InvoiceListQuerySerializer,
        errors=[UnknownTenant, *STRIPE_ERRORS, Overloaded],
    )
    def get(self, request: Request, pubkey: str) -> Response:
        """Return the tenant's Stripe invoices, newest first, with their collection."""
        query = self.validated_query(serializers.InvoiceListQuerySerializer)
        tenant = tenant_for(self.caller, pubkey)
        with self.concurrency_limit():
            rows = invoices.list_invoices(tenant)
        # In Python: Stripe's list is cached as a whole, for every filter and page.
        if "status" in query:
            rows = [row for row in rows if row.status == query["status"]]
        after, limit = query.get("cursor"), query["limit"]
        return paginate_after(
            request, rows, serializers.InvoiceSerializer, after=after, limit=limit
        )


class BaseInvoiceView(ApiView):
    """Base of the views of one invoice."""

    permission_classes = [IsAuthenticated]

    def invoice(self, invoice_id: str) -> invoices.InvoiceDetails:
        """Return the invoice. Raises UnknownInvoice, a StripeError or Overloaded."""
        with self.concurrency_limit():
            return invoice_for(self.caller, invoice_id)


class InvoiceDetailView(BaseInvoiceView):
    @describe(
        "Get an invoice",
        response=serializers.InvoiceSerializer,
        errors=[UnknownInvoice, *STRIPE_ERRORS, Overloaded],
    )
    def get(self, request: Request, invoice_id: str) -> Response:
        """Return one invoice by its Stripe id."""
        self.forbid_query()
        invoice = self.invoice(invoice_id)
        return success(serializers.InvoiceSerializer(invoice).data)


class Bolt11View(BaseInvoiceView):
    costly_methods = frozenset({"POST"})

    @describe(
        "Get the open Lightning invoice",
        response=serializers.Bolt11Serializer,
        errors=[UnknownInvoice, Bolt11NotOpen, *STRIPE_ERRORS, Overloaded],
    )
    def get(self, request: Request, invoice_id: str) -> Response:
        """Return the current Lightning invoice, if it can still be paid.

        Never issues a new one.
        """
        self.forbid_query()
        invoice = self.invoice(invoice_id)
        return success(serializers.Bolt11Serializer(current_bolt11(invoice.id)).data)

    @describe(
        "Issue a Lightning invoice",
        response=serializers.Bolt11Serializer,
        body=EmptySerializer,
        errors=[
            UnknownInvoice,
            InvoiceNotOpen,
            InvoiceChanged,
            lightning.PaymentInProgress,
            lightning.AlreadySettled,
            *STRIPE_ERRORS,
            *WALLET_ERRORS,
            Overloaded,
        ],
    )
    def post(self, request: Request, invoice_id: str) -> Response:
        """Return a bolt11 for the remaining amount.

        This is the open one, or a new one at the current exchange rate. Fails with
        `payment-in-progress` while another payment is pending; `until` says when that
        payment will have ended at the latest, and is absent if nobody knows.
        """
        self.validated_body(EmptySerializer)
        invoice = self.invoice(invoice_id)
        with self.concurrency_limit():
            bolt11 = get_or_issue_bolt11(invoice_id=invoice.id)
        return success(serializers.Bolt11Serializer(bolt11).data)


class ReceiptView(BaseInvoiceView):
    @describe(
        "Get a receipt",
        response=ReceiptSerializer,
        errors=[UnknownInvoice, InvoiceNotPaid, *STRIPE_ERRORS, Overloaded],
    )
    def get(self, request: Request, invoice_id: str) -> Response:
        """Return a signed proof of payment that anyone can check.

        `event` is the receipt signed by this service's key. For a Lightning payment,
        the SHA-256 of `preimage` is the `payment_hash` in `bolt11`: the preimage is
        revealed only to the payer and to readers of this receipt.
        """
        self.forbid_query()
        invoice = self.invoice(invoice_id)
        with self.concurrency_limit():
            receipt = build_receipt(invoice.id)
        return success(ReceiptSerializer(receipt).data)
