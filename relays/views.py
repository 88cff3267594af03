"""Page behind the link to a relay's exports. Only its buttons change anything."""

from django.http import HttpRequest, HttpResponse

from relays.services.exports.links import read_link
from tenants.views import EmailLinkView


class ExportView(EmailLinkView):
    """`/exports/<token>`: order an export of a relay, and download it."""

    def get(self, request: HttpRequest, token: str) -> HttpResponse:
        read_link(token)
        return self.page(
            "Export of your relay", "Exports are being prepared. Please come back soon."
        )
