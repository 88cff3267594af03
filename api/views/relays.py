from typing import Any
from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response

from api.access import relay_for, relays_for, tenant_for
from api.lists import paginate
from api.schema import describe
from api.serializers import relays as forms
from api.serializers.base import EmptySerializer
from api.serializers.tenants import ActivityListParams, ActivitySerializer
from api.views.base import ApiView
from api.views.filters import activities, filtered_relays
from caravel.core.exceptions import CaravelError
from caravel.core.web.envelope import success
from caravel.core.web.permissions import IsAuthenticated
from caravel.core.web.throttling import Overloaded
from relays import exceptions
from relays.services import lifecycle
from relays.services.members import list_members
from tenants.exceptions import TenantClosed, UnknownTenant
from tenants.models import Activity

_FIELDS: list[type[CaravelError]] = [
    exceptions.UnknownRelay,
    exceptions.InvalidSubdomain,
    exceptions.ReservedSubdomain,
    exceptions.SubdomainTaken,
    exceptions.UnknownPlan,
    exceptions.PlanLacksFeature,
    exceptions.PaymentOverdue,
]


class RelaysView(ApiView):
    permission_classes = [IsAuthenticated]

    @describe(
        "List the relays",
        answer=forms.RelaySerializer,
        many=True,
        query=forms.AllRelaysParams,
        errors=[UnknownTenant],
    )
    def get(self, request: Request) -> Response:
        """One's own relays; an operator's key lists all."""
        params = self.params(forms.AllRelaysParams)
        rows = filtered_relays(relays_for(self.caller), params)
        if "tenant" in params:
            rows = rows.filter(tenant=tenant_for(self.caller, params["tenant"]))
        order, limit = params["order"], params["limit"]
        return paginate(request, rows, forms.RelaySerializer, order=order, limit=limit)

    @describe(
        "Create a relay",
        answer=forms.RelaySerializer,
        body=forms.RelayCreateSerializer,
        statuses=(201,),
        errors=[*_FIELDS, UnknownTenant, TenantClosed],
        examples={"A relay on the basic plan": {"subdomain": "birds", "plan": "basic"}},
    )
    def post(self, request: Request) -> Response:
        """Create an active relay; on a paid plan it is billed from now on."""
        fields = self.given(forms.RelayCreateSerializer)
        owner = tenant_for(self.caller, fields.pop("tenant", self.caller.pubkey))
        plan_id = fields.pop("plan")
        relay = lifecycle.create_relay(tenant_id=owner.pk, plan_id=plan_id, **fields)
        return success(forms.RelaySerializer(relay).data, status=201)


class RelayView(ApiView):
    permission_classes = [IsAuthenticated]

    @describe(
        "Get a relay", answer=forms.RelaySerializer, errors=[exceptions.UnknownRelay]
    )
    def get(self, request: Request, relay_id: UUID) -> Response:
        """One relay."""
        self.forbid_query()
        return success(forms.RelaySerializer(relay_for(self.caller, relay_id)).data)

    @describe(
        "Change a relay",
        answer=forms.RelaySerializer,
        body=forms.RelayUpdateSerializer,
        errors=[*_FIELDS, exceptions.RelayIsDelinquent],
        examples={
            "Rename it": {"name": "Birds of the North"},
            "Upgrade it and switch something on": {
                "plan": "growth",
                "livekit_enabled": True,
            },
        },
    )
    def patch(self, request: Request, relay_id: UUID) -> Response:
        """Change what is given, all or nothing. Another plan is billed at once.

        What a new plan does not carry is switched off with the change.
        """
        relay = relay_for(self.caller, relay_id)
        fields = self.given(forms.RelayUpdateSerializer, partial=True)
        plan_id = fields.pop("plan", None)
        relay = lifecycle.update_relay_and_plan(
            relay_id=relay.pk, plan_id=plan_id, **fields
        )
        return success(forms.RelaySerializer(relay).data)


class RelayActivateView(ApiView):
    permission_classes = [IsAuthenticated]

    @describe(
        "Switch a relay on",
        answer=forms.RelaySerializer,
        body=EmptySerializer,
        errors=[
            exceptions.UnknownRelay,
            exceptions.RelayIsActive,
            exceptions.RelayIsDelinquent,
            TenantClosed,
            exceptions.PaymentOverdue,
        ],
    )
    def post(self, request: Request, relay_id: UUID) -> Response:
        """Switch on what was switched off; on a paid plan it is billed again."""
        return self._switch(lifecycle.activate_relay, relay_id)

    def _switch(self, service: Any, relay_id: UUID) -> Response:
        relay = relay_for(self.caller, relay_id)
        self.given(EmptySerializer)
        return success(forms.RelaySerializer(service(relay_id=relay.pk)).data)


class RelayDeactivateView(RelayActivateView):
    @describe(
        "Switch a relay off",
        answer=forms.RelaySerializer,
        body=EmptySerializer,
        errors=[exceptions.UnknownRelay, exceptions.RelayIsInactive],
    )
    def post(self, request: Request, relay_id: UUID) -> Response:
        """Switch a relay off; what was paid for the rest of the month is credited."""
        return self._switch(lifecycle.deactivate_relay, relay_id)


class RelayMembersView(ApiView):
    permission_classes = [IsAuthenticated]

    @describe(
        "List a relay's members",
        answer=forms.MembersSerializer,
        errors=[
            exceptions.UnknownRelay,
            exceptions.ZooidUnavailable,
            exceptions.ZooidRefused,
            Overloaded,
        ],
    )
    def get(self, request: Request, relay_id: UUID) -> Response:
        """Who may write to a relay, as the server that runs it says just now."""
        self.forbid_query()
        relay = relay_for(self.caller, relay_id)
        with self.concurrency_limit():
            members = list_members(relay_id=relay.pk)
        return success({"members": members})


class RelayActivityView(ApiView):
    permission_classes = [IsAuthenticated]

    @describe(
        "List a relay's activity",
        answer=ActivitySerializer,
        many=True,
        query=ActivityListParams,
        errors=[exceptions.UnknownRelay],
    )
    def get(self, request: Request, relay_id: UUID) -> Response:
        """What happened to a relay."""
        params = self.params(ActivityListParams)
        relay = relay_for(self.caller, relay_id)
        rows = Activity.objects.filter(subject_type="relay", subject_id=str(relay.pk))
        return activities(request, rows, params)
