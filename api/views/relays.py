from typing import Any
from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response

from api.access import relay_for, relays_for, tenant_for
from api.lists import paginate
from api.schema import describe
from api.serializers import relays as serializers
from api.serializers.base import EmptySerializer
from api.serializers.tenants import ActivityListQuerySerializer, ActivitySerializer
from api.views.base import ApiView
from api.views.filters import activity_page, filter_relays
from caravel.core.exceptions import CaravelError
from caravel.core.web.envelope import success
from caravel.core.web.permissions import IsAuthenticated
from caravel.core.web.throttling import Overloaded
from relays import exceptions
from relays.services import lifecycle
from relays.services.members import list_members
from tenants.exceptions import TenantClosed, UnknownTenant
from tenants.models import Activity

_FIELD_ERRORS: list[type[CaravelError]] = [
    exceptions.UnknownRelay,
    exceptions.InvalidSubdomain,
    exceptions.ReservedSubdomain,
    exceptions.SubdomainTaken,
    exceptions.UnknownPlan,
    exceptions.PlanLacksFeature,
    exceptions.PaymentOverdue,
    exceptions.BillingOnHold,
    exceptions.PriceMissing,
    exceptions.FreeRelayQuota,
    exceptions.UnpaidRelayQuota,
]


class RelaysView(ApiView):
    permission_classes = [IsAuthenticated]

    @describe(
        "List the relays",
        response=serializers.RelaySerializer,
        many=True,
        query=serializers.AllRelaysQuerySerializer,
        errors=[UnknownTenant],
    )
    def get(self, request: Request) -> Response:
        """Return the caller's own relays; operators get all."""
        query = self.validated_query(serializers.AllRelaysQuerySerializer)
        rows = filter_relays(relays_for(self.caller), query)
        if "tenant" in query:
            rows = rows.filter(tenant=tenant_for(self.caller, query["tenant"]))
        order, limit = query["order"], query["limit"]
        return paginate(
            request, rows, serializers.RelaySerializer, order=order, limit=limit
        )

    @describe(
        "Create a relay",
        response=serializers.RelaySerializer,
        body=serializers.RelayCreateSerializer,
        statuses=(201,),
        errors=[*_FIELD_ERRORS, UnknownTenant, TenantClosed],
        examples={"A relay on the basic plan": {"subdomain": "birds", "plan": "basic"}},
    )
    def post(self, request: Request) -> Response:
        """Create an active relay. On a paid plan, billing starts now."""
        fields = self.validated_body(serializers.RelayCreateSerializer)
        owner = tenant_for(self.caller, fields.pop("tenant", self.caller.pubkey))
        plan_id = fields.pop("plan")
        relay = lifecycle.create_relay(tenant_id=owner.pk, plan_id=plan_id, **fields)
        return success(serializers.RelaySerializer(relay).data, status=201)


class RelayView(ApiView):
    permission_classes = [IsAuthenticated]

    @describe(
        "Get a relay",
        response=serializers.RelaySerializer,
        errors=[exceptions.UnknownRelay],
    )
    def get(self, request: Request, relay_id: UUID) -> Response:
        """Return one relay."""
        self.forbid_query()
        return success(
            serializers.RelaySerializer(relay_for(self.caller, relay_id)).data
        )

    @describe(
        "Update a relay",
        response=serializers.RelaySerializer,
        body=serializers.RelayUpdateSerializer,
        errors=[*_FIELD_ERRORS, exceptions.RelayIsDelinquent],
        examples={
            "Rename it": {"name": "Birds of the North"},
            "Upgrade it and enable a feature": {
                "plan": "growth",
                "livekit_enabled": True,
            },
        },
    )
    def patch(self, request: Request, relay_id: UUID) -> Response:
        """Update the given fields atomically.

        A new plan is billed immediately; features that it lacks are switched off.
        """
        relay = relay_for(self.caller, relay_id)
        fields = self.validated_body(serializers.RelayUpdateSerializer, partial=True)
        plan_id = fields.pop("plan", None)
        relay = lifecycle.update_relay_and_plan(
            relay_id=relay.pk, plan_id=plan_id, **fields
        )
        return success(serializers.RelaySerializer(relay).data)


class RelayActivateView(ApiView):
    permission_classes = [IsAuthenticated]

    @describe(
        "Switch a relay on",
        response=serializers.RelaySerializer,
        body=EmptySerializer,
        errors=[
            exceptions.UnknownRelay,
            exceptions.RelayIsActive,
            exceptions.RelayIsDelinquent,
            TenantClosed,
            exceptions.PaymentOverdue,
            exceptions.BillingOnHold,
            exceptions.PriceMissing,
        ],
    )
    def post(self, request: Request, relay_id: UUID) -> Response:
        """Switch an inactive relay on. On a paid plan, billing starts again."""
        return self._switch(lifecycle.activate_relay, relay_id)

    def _switch(self, service: Any, relay_id: UUID) -> Response:
        relay = relay_for(self.caller, relay_id)
        self.validated_body(EmptySerializer)
        return success(serializers.RelaySerializer(service(relay_id=relay.pk)).data)


class RelayDeactivateView(RelayActivateView):
    @describe(
        "Switch a relay off",
        response=serializers.RelaySerializer,
        body=EmptySerializer,
        errors=[exceptions.UnknownRelay, exceptions.RelayIsInactive],
    )
    def post(self, request: Request, relay_id: UUID) -> Response:
        """Switch a relay off. The rest of the paid period is credited."""
        return self._switch(lifecycle.deactivate_relay, relay_id)


class RelayMembersView(ApiView):
    permission_classes = [IsAuthenticated]

    @describe(
        "List a relay's members",
        response=serializers.RelayMembersSerializer,
        errors=[
            exceptions.UnknownRelay,
            exceptions.ZooidUnavailable,
            exceptions.ZooidRefused,
            Overloaded,
        ],
    )
    def get(self, request: Request, relay_id: UUID) -> Response:
        """Return the relay's current members, as reported by the relay server."""
        self.forbid_query()
        relay = relay_for(self.caller, relay_id)
        with self.concurrency_limit():
            members = list_members(relay_id=relay.pk)
        return success({"members": members})


class RelayActivityView(ApiView):
    permission_classes = [IsAuthenticated]

    @describe(
        "List a relay's activity",
        response=ActivitySerializer,
        many=True,
        query=ActivityListQuerySerializer,
        errors=[exceptions.UnknownRelay],
    )
    def get(self, request: Request, relay_id: UUID) -> Response:
        """Return changes of a relay, newest first."""
        query = self.validated_query(ActivityListQuerySerializer)
        relay = relay_for(self.caller, relay_id)
        rows = Activity.objects.filter(subject_type="relay", subject_id=str(relay.pk))
        return activity_page(request, rows, query)
