"""Filters and pages that several views share."""

from typing import Any

from django.db.models import QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from api.lists import paginate
from api.serializers.tenants import ActivitySerializer
from relays.models import RelayQuerySet
from tenants.models import Activity


def filter_relays(rows: RelayQuerySet, query: dict[str, Any]) -> RelayQuerySet:
    """Filter relays by status and plan."""
    filters = {name: query[name] for name in ("status", "plan") if name in query}
    return rows.filter(**filters)


def activity_page(
    request: Request, rows: QuerySet[Activity], query: dict[str, Any]
) -> Response:
    """Return a page of activities, newest first by default."""
    if "type" in query:
        rows = rows.filter(type=query["type"])
    order, limit = query["order"], query["limit"]
    return paginate(request, rows, ActivitySerializer, order=order, limit=limit)
