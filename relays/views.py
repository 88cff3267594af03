"""Page behind the link to a relay's exports. Only its buttons change anything."""

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from caravel.core.web.downloads import download
from relays.models import Relay
from relays.services.exports import files
from relays.services.exports.links import read_link
from relays.services.exports.order import order_export
from tenants.views import EmailLinkView


class ExportView(EmailLinkView):
    """`/exports/<token>`: order an export of a relay, and download it."""

    template_name = "relays/export.html"

    def get(self, request: HttpRequest, token: str) -> HttpResponse:
        return self._status(Relay.objects.get(pk=read_link(token)))

    def post(self, request: HttpRequest, token: str) -> HttpResponseBase:
        relay_id = read_link(token)
        if request.POST.get("action") == "download":
            file = files.latest_file(relay_id)
            return download(
                request,
                file.parts,
                name=file.name,
                size=file.size,
                content_type=file.content_type,
                exclusive=str(relay_id),
            )
        return self._status(order_export(relay_id=relay_id).relay)

    def _status(self, relay: Relay) -> HttpResponse:
        exports = files.list_exports(relay.pk)
        newest = exports.first()
        is_unfinished = newest is not None and newest.is_unfinished
        return self.page(
            f"Export of {relay}",
            "A copy of all events that your relay stores, as one file.",
            relay=relay,
            newest=newest,
            done=exports.done().first(),
            is_unfinished=is_unfinished,
            may_order=not is_unfinished and not relay.deleted_at,
        )
