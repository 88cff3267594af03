"""`/pay/<token>/status`: whether the page of an invoice would say something else."""

from typing import Any

from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing.services.payment_page.refresh import refresh_page
from billing.views.private import invoice_id_from_token, set_private_headers
from caravel.core.web.envelope import AlwaysJson, success
from caravel.core.web.throttling import client_address


class PaymentStatusView(APIView):
    """How an invoice stands, for the script of the page. It issues nothing."""

    permission_classes = [AllowAny]  # the link is the credential
    content_negotiation_class = AlwaysJson
    schema = None

    def get(self, request: Request, token: str) -> Response:
        invoice_id = invoice_id_from_token(request, token)
        visitor = f"address {client_address(request._request)}"
        page = refresh_page(invoice_id, visitor=visitor)
        is_offered = page.is_offered and page.offer is not None
        return success(
            {
                "state": page.state,
                "version": page.version,
                "is_final": page.is_final,
                "is_wallet_down": page.is_wallet_down,
                "until": page.again_at,
                "expires_at": page.offer.expires_at
                if page.offer and is_offered
                else None,
            }
        )

    def finalize_response(
        self, request: Request, response: Response, *args: Any, **kwargs: Any
    ) -> Response:
        answer = super().finalize_response(request, response, *args, **kwargs)
        set_private_headers(answer)
        return answer
