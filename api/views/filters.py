"""What several lists have in common."""

from typing import Any

from django.db.models import QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from api.lists import paginate
from api.serializers.tenants import ActivitySerializer
from relays.models import RelayQuerySet
from tenants.models import Activity


def filtered_relays(rows: RelayQuerySet, params: dict[str, Any]) -> RelayQuerySet:
    """Return those of the wanted status and plan."""
    wanted = {name: params[name] for name in ("status", "plan") if name in params}
    return rows.filter(**wanted)


def activities(
    request: Request, rows: QuerySet[Activity], params: dict[str, Any]
) -> Response:
    """Return a page of activities, the last ones first."""
    if "type" in params:
        rows = rows.filter(type=params["type"])
    order, limit = params["order"], params["limit"]
    return paginate(request, rows, ActivitySerializer, order=order, limit=limit)
