from typing import Any
from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response

from api.access import relay_for, relays_for, tenant_for
from api.exceptions import MEMBER_ERRORS, QUOTE_ERRORS, STRIPE_ERRORS
from api.lists import paginate
from api.schema import describe
from api.serializers import relays as serializers
from api.serializers.base import EmptySerializer
from api.serializers.tenants import ActivityListQuerySerializer, ActivitySerializer
from api.views.base import ApiView
from api.views.filters import activity_page, filter_relays
from billing.exceptions import QuoteChanged, QuoteNotReady
from billing.services.subscriptions.quotes import (
    change_plan_as_quoted,
    quote_plan_change,
)
from caravel.core.exceptions import CaravelError
from caravel.core.web.envelope import success
from caravel.core.web.permissions import IsAuthenticated
from caravel.core.web.throttling import Overloaded
from relays import exceptions
from relays.models import Relay
from relays.services import lifecycle
from relays.services.members import count_for_plan, list_members
from tenants.exceptions import TenantClosed, UnknownTenant
from tenants.models import Activity

_FIELD_ERRORS: list[type[CaravelError]] = [
    exceptions.UnknownRelay,
    exceptions.InvalidSubdomain,
    exceptions.ReservedSubdomain,
    exceptions.SubdomainTaken,
    exceptions.UnknownPlan,
    exceptions.PlanLacksFeature,
    exceptions.FeatureUnavailable,
    exceptions.InvalidRole,
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
        """Create an active relay, which runs within seconds.

        On a paid plan, billing starts when it is first seen running.
        """
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
        body=serializers.RelayChangeSerializer,
        errors=[
            *_FIELD_ERRORS,
            exceptions.RelayIsDelinquent,
            *MEMBER_ERRORS,
            *QUOTE_ERRORS,
        ],
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

        A new plan is billed immediately, or from the time when the relay is first seen
        running; features that it lacks are switched off. A smaller one is refused while
        the relay has more members than it allows. With the `quote` of a plan the change
        is made at the quoted amount only.
        """
        relay = relay_for(self.caller, relay_id)
        fields = self.validated_body(serializers.RelayChangeSerializer, partial=True)
        quote_id, plan_id = fields.pop("quote", None), fields.pop("plan", None)
        if quote_id is None or plan_id == relay.plan_id:
            if plan_id is not None:
                self._count_members(relay, plan_id)
            relay = lifecycle.update_relay_and_plan(
                relay_id=relay.pk, plan_id=plan_id, **fields
            )
        else:
            relay = self._change_as_quoted(relay, quote_id, plan_id or "", fields)
        return success(serializers.RelaySerializer(relay).data)

    def _count_members(self, relay: Relay, plan_id: str) -> None:
        # For a smaller plan, this waits for zooid; and a loop of refused ones is cheap
        # for the caller.
        if plan_id != relay.plan_id:
            self.throttle_costly()
        with self.concurrency_limit():
            count_for_plan(relay_id=relay.pk, plan_id=plan_id)

    def _change_as_quoted(
        self, relay: Relay, quote_id: str, plan_id: str, fields: dict[str, Any]
    ) -> Relay:
        self.throttle_costly()
        with self.concurrency_limit():
            return change_plan_as_quoted(
                quote_id=quote_id, relay_id=relay.pk, plan_id=plan_id, **fields
            )

    @describe(
        "Delete a relay",
        response=serializers.RelaySerializer,
        errors=[exceptions.UnknownRelay],
    )
    def delete(self, request: Request, relay_id: UUID) -> Response:
        """Delete a relay for good. Its subdomain becomes free.

        The rest of a paid period is credited, and no further one is billed. Nobody can
        read its events any more, but the relay server keeps them until its operator
        removes them. Export and download them before.
        """
        self.forbid_query()
        relay = relay_for(self.caller, relay_id)
        relay = lifecycle.delete_relay(relay_id=relay.pk)
        return success(serializers.RelaySerializer(relay).data)


class RelayQuoteView(ApiView):
    permission_classes = [IsAuthenticated]
    costly_methods = frozenset({"GET", "HEAD"})

    @describe(
        "Quote a change of plan",
        response=serializers.QuoteSerializer,
        query=serializers.QuoteQuerySerializer,
        errors=[
            exceptions.UnknownRelay,
            exceptions.UnknownPlan,
            exceptions.RelayIsDelinquent,
            exceptions.PaymentOverdue,
            exceptions.BillingOnHold,
            exceptions.PriceMissing,
            exceptions.FreeRelayQuota,
            exceptions.UnpaidRelayQuota,
            *MEMBER_ERRORS,
            QuoteChanged,
            QuoteNotReady,
            *STRIPE_ERRORS,
            Overloaded,
        ],
    )
    def get(self, request: Request, relay_id: UUID) -> Response:
        """Return the cost of a change of plan, now and at each renewal.

        Changes nothing. Send the quote's `id` as `quote` with the change, within ten
        minutes, to be charged this amount and no other. A credit is computed for the
        time of the change. A relay that was never seen running is quoted as if it ran
        now; nothing is due before it does.
        """
        relay = relay_for(self.caller, relay_id)
        query = self.validated_query(serializers.QuoteQuerySerializer)
        with self.concurrency_limit():
            quote = quote_plan_change(relay_id=relay.pk, plan_id=query["plan"])
            context = {"currency": quote.preview.currency}
            data = serializers.QuoteSerializer(quote, context=context).data
        return success(data)


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
    costly_methods = frozenset({"GET", "HEAD"})

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
