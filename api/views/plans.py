from rest_framework.request import Request
from rest_framework.response import Response

from api.schema import describe
from api.serializers.plans import PlanSerializer
from api.views.base import PublicView
from caravel.core.exceptions import NotFound
from caravel.core.web.envelope import success
from relays.models import Plan


class PlansView(PublicView):
    @describe("List the plans", answer=PlanSerializer, many=True, is_open=True)
    def get(self, request: Request) -> Response:
        """What a relay costs a month and may do, the cheapest first."""
        self.forbid_query()
        return success(PlanSerializer(Plan.objects.all(), many=True).data)


class PlanView(PublicView):
    @describe("Get a plan", answer=PlanSerializer, errors=[NotFound], is_open=True)
    def get(self, request: Request, plan_id: str) -> Response:
        """One plan by its id."""
        self.forbid_query()
        found = next((plan for plan in Plan.objects.all() if plan.pk == plan_id), None)
        if found is None:
            raise NotFound("There is no such plan.")
        return success(PlanSerializer(found).data)
