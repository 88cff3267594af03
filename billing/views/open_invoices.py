"""`/pay/<token>/all`: the open invoices of an invoice's tenant, with their links."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils import timezone

from billing.services.invoices.payment_link import is_expired
from billing.services.payment_page.open_invoices import list_open_invoices, total
from billing.views.payment_page import TokenView


class OpenInvoicesView(TokenView):
    """List with the total. Redirects to the invoice's page when there is none.

    A receipt's link that is too old to pay with leads to no other invoice either.
    """

    http_method_names = ["get", "head"]

    def get(self, request: HttpRequest, invoice_id: str) -> HttpResponse:
        links = list_open_invoices(invoice_id, self.token)
        if not links or is_expired(self.token):
            return HttpResponseRedirect(self.path)
        context = {
            "links": links,
            "total": total(link.invoice for link in links),
            "now": timezone.now(),
            "brand": settings.ROBOT_NAME,
        }
        return render(request, "billing/open_invoices.html", context)
