"""`/pay/<token>/status`: polled by the page's script to notice changes."""

from typing import Any

from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing.services.payment_page.presentation import etag
from billing.services.payment_page.refresh import refresh_page
from billing.views.private import invoice_id_from_token, set_private_headers
from caravel.core.web.envelope import AlwaysJson, success
from caravel.core.web.throttling import client_address


class PaymentStatusView(APIView):
    """State and etag of the page. Issues nothing."""

    permission_classes = [AllowAny]  # the link is the credential
    content_negotiation_class = AlwaysJson
    schema = None

    def get(self, request: Request, token: str) -> Response:
        invoice_id = invoice_id_from_token(request, token)
        visitor = f"address {client_address(request._request)}"
        page = refresh_page(invoice_id, visitor=visitor)
        bolt11 = page.open_bolt11
        return success(
            {
                "state": page.state,
                "version": etag(page),
                "is_final": page.is_final,
                "is_wallet_down": page.is_wallet_down,
                "until": page.blocked_until,
                "expires_at": bolt11.expires_at if bolt11 else None,
            }
        )

    def finalize_response(
        self, request: Request, response: Response, *args: Any, **kwargs: Any
    ) -> Response:
        # Here and not in get(), so that error responses have the headers as well.
        final = super().finalize_response(request, response, *args, **kwargs)
        set_private_headers(final)
        return final
