from rest_framework.request import Request
from rest_framework.response import Response

from api.schema import describe
from api.serializers.plans import PlanSerializer
from api.views.base import PublicView
from caravel.core.exceptions import NotFound
from caravel.core.web.envelope import success
from relays.models import Plan


class PlansView(PublicView):
    @describe("List the plans", response=PlanSerializer, many=True, is_public=True)
    def get(self, request: Request) -> Response:
        """Return all plans, cheapest first."""
        self.forbid_query()
        return success(PlanSerializer(Plan.objects.all(), many=True).data)


class PlanView(PublicView):
    @describe("Get a plan", response=PlanSerializer, errors=[NotFound], is_public=True)
    def get(self, request: Request, plan_id: str) -> Response:
        """Return one plan."""
        self.forbid_query()
        # Compared in Python: PostgreSQL raises an error for an id with a NUL character.
        plan = next((each for each in Plan.objects.all() if each.pk == plan_id), None)
        if plan is None:
            raise NotFound("There is no such plan.")
        return success(PlanSerializer(plan).data)
