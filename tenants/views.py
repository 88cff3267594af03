"""Pages behind the links in our e-mails. Only their buttons change anything.

Mail programs and virus scanners open links; they press no buttons.
"""

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_exempt
from django.views.generic import View

from caravel.core.exceptions import CaravelError
from caravel.core.web.private_pages import set_private_headers
from caravel.core.web.throttling import client_address, throttle
from tenants.services.email_links import read_stop
from tenants.services.tenants import confirm_email, stop_emails, tenant_to_confirm


# The token is the credential, and a mail program that unsubscribes has no cookie.
@method_decorator(csrf_exempt, name="dispatch")
class EmailLinkView(View):
    """Base of the pages: throttled, private, and with errors as pages."""

    http_method_names = ["get", "head", "post"]
    template_name = "tenants/email.html"

    def dispatch(
        self, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        response: HttpResponseBase
        try:
            throttle(
                settings.API_RATE_PER_ADDRESS, "email-link", client_address(request)
            )
            response = super().dispatch(request, *args, **kwargs)
        except CaravelError as exc:
            response = self.page("This did not work", exc.message, status=exc.status)
            for name, value in exc.headers.items():
                response[name] = value
        set_private_headers(response)
        return response

    def page(
        self,
        headline: str,
        message: str,
        *,
        button: str = "",
        status: int = 200,
        **more: object,
    ) -> HttpResponse:
        context: dict[str, Any] = {
            **more,
            "headline": headline,
            "message": message,
            "button": button,
            "brand": settings.ROBOT_NAME,
        }
        return render(self.request, self.template_name, context, status=status)


class ConfirmEmailView(EmailLinkView):
    """`/confirm-email/<token>`: confirm that notices may be sent to an address."""

    def get(self, request: HttpRequest, token: str) -> HttpResponse:
        tenant = tenant_to_confirm(token=token)
        return self.page(
            "Is this your address?",
            f"The account {tenant.npub} wants to receive notices about its relays at"
            f" {tenant.email}. If this is not you, close this page: nothing is sent.",
            button="Yes, send them to me",
        )

    def post(self, request: HttpRequest, token: str) -> HttpResponse:
        tenant = confirm_email(token=token)
        return self.page(
            "Your address is confirmed",
            f"Notices are now also sent to {tenant.email}. Each of them has a link that"
            " ends this.",
        )


class StopEmailView(EmailLinkView):
    """`/stop-email/<token>`: end e-mails to an address, also by one click (RFC 8058).

    https://www.rfc-editor.org/rfc/rfc8058#section-3.1
    """

    def get(self, request: HttpRequest, token: str) -> HttpResponse:
        read_stop(token)
        return self.page(
            "No more e-mails?",
            "Your address is then removed from the account. Notices are still sent as"
            " private messages on Nostr.",
            button="Stop these e-mails",
        )

    def post(self, request: HttpRequest, token: str) -> HttpResponse:
        stop_emails(token=token)
        return self.page(
            # Also true if the account has another address by now.
            "No more e-mails to this address",
            "The account does not use this address any more. To get e-mails again,"
            " enter it there.",
        )
