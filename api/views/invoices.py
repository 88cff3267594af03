from rest_framework.request import Request
from rest_framework.response import Response

from api.access import invoice_for, tenant_for
from api.exceptions import STRIPE, WALLET
from api.lists import listed_after
from api.schema import documented
from api.serializers import invoices as forms
from api.serializers.base import NothingSerializer
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
from billing.services.invoice_views.receipts import receipt_of
from billing.services.payment_page.bolt11 import offer_bolt11, shown_bolt11
from caravel.core.web.envelope import success
from caravel.core.web.permissions import Signed
from caravel.core.web.throttling import Busy
from lightning import exceptions as lightning
from relays.exceptions import UnknownTenant


class TenantInvoicesView(ApiView):
    permission_classes = [Signed]

    @documented(
        "List a tenant's invoices",
        answer=forms.InvoiceSerializer,
        many=True,
        query=forms.InvoiceListParams,
        errors=[UnknownTenant, *STRIPE, Busy],
    )
    def get(self, request: Request, pubkey: str) -> Response:
        """Stripe's invoices, the newest first, and how far their collection is."""
        params = self.params(forms.InvoiceListParams)
        tenant = tenant_for(self.caller, pubkey)
        with self.slow_lane():
            rows = invoices.invoices_of(tenant)
        if "status" in params:
            rows = [row for row in rows if row.status == params["status"]]
        after, limit = params.get("cursor"), params["limit"]
        return listed_after(
            request, rows, forms.InvoiceSerializer, after=after, limit=limit
        )


class OfInvoiceView(ApiView):
    """A view of one invoice, for whose it is."""

    permission_classes = [Signed]

    def invoice(self, invoice_id: str) -> invoices.InvoiceView:
        """Return the invoice. Raises UnknownInvoice, a StripeError or Busy."""
        with self.slow_lane():
            return invoice_for(self.caller, invoice_id)


class InvoiceView(OfInvoiceView):
    @documented(
        "Get an invoice",
        answer=forms.InvoiceSerializer,
        errors=[UnknownInvoice, *STRIPE, Busy],
    )
    def get(self, request: Request, invoice_id: str) -> Response:
        """One invoice by Stripe's id."""
        self.params_none()
        found = self.invoice(invoice_id)
        return success(forms.InvoiceSerializer(found).data)


class Bolt11View(OfInvoiceView):
    costly = frozenset({"POST"})

    @documented(
        "Get the open Lightning invoice",
        answer=forms.Bolt11Serializer,
        errors=[UnknownInvoice, Bolt11NotOpen, *STRIPE, Busy],
    )
    def get(self, request: Request, invoice_id: str) -> Response:
        """The one that was asked for and can still be paid; none is issued by this."""
        self.params_none()
        found = self.invoice(invoice_id)
        return success(forms.Bolt11Serializer(shown_bolt11(found.id)).data)

    @documented(
        "Issue a Lightning invoice",
        answer=forms.Bolt11Serializer,
        body=NothingSerializer,
        errors=[
            UnknownInvoice,
            InvoiceNotOpen,
            InvoiceChanged,
            lightning.PaymentInProgress,
            lightning.AlreadySettled,
            *STRIPE,
            *WALLET,
            Busy,
        ],
    )
    def post(self, request: Request, invoice_id: str) -> Response:
        """A bolt11 over what is left to pay: the open one, or one at today's price.

        While something else may pay the invoice it is refused, with the time `until`
        when that is decided at the latest.
        """
        self.given(NothingSerializer)
        found = self.invoice(invoice_id)
        with self.slow_lane():
            offered = offer_bolt11(invoice_id=found.id)
        return success(forms.Bolt11Serializer(offered).data)


class ReceiptView(OfInvoiceView):
    @documented(
        "Get a receipt",
        answer=ReceiptSerializer,
        errors=[UnknownInvoice, InvoiceNotPaid, *STRIPE, Busy],
    )
    def get(self, request: Request, invoice_id: str) -> Response:
        """What proves to anybody that an invoice was paid.

        `event` is the receipt signed by this service's key. Of a Lightning payment the
        SHA-256 of `preimage` is `payment_hash`, which is that of `bolt11`: only who has
        paid it, or was shown this, can know the preimage.
        """
        self.params_none()
        found = self.invoice(invoice_id)
        with self.slow_lane():
            receipt = receipt_of(found.id)
        return success(ReceiptSerializer(receipt).data)
