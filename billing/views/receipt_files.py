"""`/pay/<token>/receipt.pdf` and `.json`: the receipt of a paid invoice as a file."""

from django.http import HttpRequest, HttpResponse
from django.utils.http import content_disposition_header

from billing.clients.stripe.transport import interactive
from billing.services.payment_page.receipt_files import receipt_file
from billing.views.payment_page import CLICK_RATE, TokenView
from caravel.core.web.throttling import client_address, concurrency_limit, throttle


class ReceiptFileView(TokenView):
    """Download the receipt; `extension` is `pdf` or `json`."""

    http_method_names = ["get", "head"]
    extension = ""

    def get(self, request: HttpRequest, invoice_id: str) -> HttpResponse:
        throttle(CLICK_RATE, "receipt-file", invoice_id)
        with concurrency_limit(f"address {client_address(request)}"), interactive():
            file = receipt_file(invoice_id, self.extension)
        disposition = content_disposition_header(True, file.name)
        return HttpResponse(
            file.content,
            content_type=file.content_type,
            headers={"Content-Disposition": disposition},
        )
