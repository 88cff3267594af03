from uuid import UUID

from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response

from api.access import relay_for
from api.lists import paginate
from api.schema import describe
from api.serializers import relays as serializers
from api.serializers.base import EmptySerializer
from api.views.base import ApiView
from caravel.core.web.downloads import download
from caravel.core.web.envelope import success
from caravel.core.web.permissions import IsAuthenticated
from caravel.core.web.throttling import Overloaded
from relays import exceptions
from relays.services.exports import files
from relays.services.exports.order import order_export


class RelayExportsView(ApiView):
    permission_classes = [IsAuthenticated]
    # Each has the relay read from its first event on.
    costly_methods = frozenset({"POST"})

    @describe(
        "List a relay's exports",
        response=serializers.RelayExportSerializer,
        many=True,
        query=serializers.RelayExportListQuerySerializer,
        errors=[exceptions.UnknownRelay],
    )
    def get(self, request: Request, relay_id: UUID) -> Response:
        """Return exports of the relay's events, newest first.

        The file of the newest finished one is kept for 30 days.
        """
        query = self.validated_query(serializers.RelayExportListQuerySerializer)
        rows = files.list_exports(relay_for(self.caller, relay_id).pk)
        order, limit = query["order"], query["limit"]
        return paginate(
            request, rows, serializers.RelayExportSerializer, order=order, limit=limit
        )

    @describe(
        "Export a relay",
        response=serializers.RelayExportSerializer,
        body=EmptySerializer,
        statuses=(202,),
        errors=[
            exceptions.UnknownRelay,
            exceptions.ExportNotPossible,
            exceptions.ExportQuota,
        ],
    )
    def post(self, request: Request, relay_id: UUID) -> Response:
        """Begin to export all events that the relay's own key can read.

        Returns the export that is under way, if there is one. A relay that is switched
        off stays so for everybody else.
        """
        relay = relay_for(self.caller, relay_id)
        self.validated_body(EmptySerializer)
        export = order_export(relay_id=relay.pk)
        return success(serializers.RelayExportSerializer(export).data, status=202)


class RelayExportView(ApiView):
    permission_classes = [IsAuthenticated]

    @describe(
        "Get an export",
        response=serializers.RelayExportSerializer,
        errors=[exceptions.UnknownRelay, exceptions.UnknownExport],
    )
    # The id is a text: one that is no number is unknown, not malformed.
    def get(self, request: Request, relay_id: UUID, export_id: str) -> Response:
        """Return one export, with its progress."""
        self.forbid_query()
        relay = relay_for(self.caller, relay_id)
        export = files.get_export(relay_id=relay.pk, export_id=export_id)
        return success(serializers.RelayExportSerializer(export).data)


class RelayExportFileView(ApiView):
    permission_classes = [IsAuthenticated]
    costly_methods = frozenset({"GET", "HEAD"})

    @describe(
        "Download an export",
        response="application/octet-stream",
        errors=[
            exceptions.UnknownRelay,
            exceptions.UnknownExport,
            exceptions.ExportNotReady,
            Overloaded,
        ],
    )
    def get(self, request: Request, relay_id: UUID, export_id: str) -> HttpResponseBase:
        """Return the file of a finished export: events as lines of JSON, in gzip.

        The newest events come first. Each line is an event of NIP-01.
        """
        self.forbid_query()
        relay = relay_for(self.caller, relay_id)
        export = files.get_export(relay_id=relay.pk, export_id=export_id)
        file = files.open_file(export)
        # Not a response of DRF: the file is sent part by part, never held whole.
        return download(
            request._request,
            file.parts,
            name=file.name,
            size=file.size,
            content_type=file.content_type,
            exclusive=str(relay.pk),
        )
