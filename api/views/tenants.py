from typing import Any

from django.conf import settings
from rest_framework.request import Request
from rest_framework.response import Response

from api.access import relays_for, tenant_for
from api.exceptions import STRIPE_ERRORS, FieldForbidden
from api.lists import paginate
from api.schema import describe
from api.serializers import tenants as serializers
from api.serializers.base import EmptySerializer
from api.serializers.relays import RelayListQuerySerializer, RelaySerializer
from api.views.base import ApiView
from api.views.filters import activity_page, filter_relays
from billing.exceptions import CustomerGone, ReturnUrlInvalid, WriteUnresolved
from billing.services.customers.closing import close_tenant
from billing.services.customers.credit import get_credit
from billing.services.customers.portal import portal_session
from caravel.core.exceptions import Forbidden
from caravel.core.web.envelope import success
from caravel.core.web.permissions import IsAdmin, IsAuthenticated
from caravel.core.web.throttling import Overloaded, client_address
from caravel.nostr import npub
from lightning.exceptions import InvalidWalletUrl, WalletUnusable
from lightning.services.wallets import connect_wallet, disconnect_wallet
from tenants.exceptions import NewTenantQuota, TenantClosed, UnknownTenant
from tenants.models import Activity, Tenant
from tenants.services.tenants import open_account, update_tenant


class IdentityView(ApiView):
    permission_classes = [IsAuthenticated]

    @describe("Get my identity", response=serializers.IdentitySerializer)
    def get(self, request: Request) -> Response:
        """Return the identity behind the signature. Creates nothing."""
        self.forbid_query()
        pubkey = self.caller.pubkey
        identity = {
            "pubkey": pubkey,
            "npub": npub(pubkey),
            "is_admin": self.caller.is_admin,
            "is_tenant": Tenant.objects.filter(pk=pubkey).exists(),
        }
        return success(serializers.IdentitySerializer(identity).data)


class TenantsView(ApiView):
    def get_permissions(self) -> list[Any]:
        # Any key may open an account with POST.
        return [
            IsAdmin() if self.request.method in {"GET", "HEAD"} else IsAuthenticated()
        ]

    @describe(
        "List the tenants",
        response=serializers.TenantSerializer,
        many=True,
        query=serializers.TenantListQuerySerializer,
        errors=[Forbidden],
    )
    def get(self, request: Request) -> Response:
        """Return all tenants. For operators only."""
        query = self.validated_query(serializers.TenantListQuerySerializer)
        rows = Tenant.objects.all()
        if (closed := query["closed"]) is not None:
            rows = rows.filter(closed_at__isnull=not closed)
        if (owing := query["owing"]) is not None:
            rows = rows.filter(payment_overdue_since__isnull=not owing)
        order, limit = query["order"], query["limit"]
        return paginate(
            request, rows, serializers.TenantSerializer, order=order, limit=limit
        )

    @describe(
        "Open my account",
        response=serializers.TenantDetailSerializer,
        body=EmptySerializer,
        statuses=(200, 201),
        errors=[NewTenantQuota],
    )
    def post(self, request: Request) -> Response:
        """Make the caller a tenant. Returns 200 if the account already existed."""
        self.validated_body(EmptySerializer)
        address = client_address(request._request)
        tenant, is_new = open_account(pubkey=self.caller.pubkey, address=address)
        data = serializers.TenantDetailSerializer(tenant).data
        return success(data, status=201 if is_new else 200)


class TenantView(ApiView):
    permission_classes = [IsAuthenticated]
    costly_methods = frozenset({"PATCH"})

    @describe(
        "Get a tenant",
        response=serializers.TenantDetailSerializer,
        errors=[UnknownTenant],
    )
    def get(self, request: Request, pubkey: str) -> Response:
        """Return a tenant by hex pubkey or npub."""
        self.forbid_query()
        tenant = tenant_for(self.caller, pubkey)
        return success(serializers.TenantDetailSerializer(tenant).data)

    @describe(
        "Update a tenant",
        response=serializers.TenantDetailSerializer,
        body=serializers.TenantUpdateSerializer,
        errors=[
            UnknownTenant,
            FieldForbidden,
            InvalidWalletUrl,
            WalletUnusable,
            Overloaded,
        ],
        examples={
            "Connect a wallet": {
                "nwc_url": "nostr+walletconnect://<pubkey>?relay=<wss url>&secret=<hex>"
            },
            "Disconnect the wallet": {"nwc_url": ""},
            "Set the name": {"display_name": "Ann"},
            "Get notices by e-mail": {"email": "ann@example.com"},
        },
    )
    def patch(self, request: Request, pubkey: str) -> Response:
        """Update the given fields atomically.

        A new wallet must prove that it can pay; open invoices are then charged to it,
        unless `autopay_paused` is set.
        """
        tenant = tenant_for(self.caller, pubkey)
        changes = self.validated_body(serializers.TenantUpdateSerializer, partial=True)
        if "dunning_exempt" in changes and not self.caller.is_admin:
            raise FieldForbidden("Only an operator may set dunning_exempt.")
        # One service call: a new wallet that comes with `autopay_paused` must never be
        # visible without it, or a collection could charge it in between.
        self._update(tenant.pk, **changes)
        tenant.refresh_from_db()
        return success(serializers.TenantDetailSerializer(tenant).data)

    def _update(self, pubkey: str, nwc_url: str | None = None, **changes: Any) -> None:
        if nwc_url:
            # One key for all callers: anyone can name wallets that never answer, and
            # with many keys and addresses take every slot. One caller cannot take all
            # of these, either.
            with self.concurrency_limit("unverified wallets"):
                connect_wallet(pubkey=pubkey, nwc_url=nwc_url, **changes)
        elif nwc_url is not None:
            disconnect_wallet(pubkey=pubkey, **changes)
        elif changes:
            update_tenant(pubkey=pubkey, **changes)


class TenantCloseView(ApiView):
    permission_classes = [IsAuthenticated]

    @describe(
        "Close my account",
        response=serializers.TenantDetailSerializer,
        body=EmptySerializer,
        errors=[UnknownTenant, TenantClosed],
    )
    def post(self, request: Request, pubkey: str) -> Response:
        """Switch all relays off and close the account; only support can reopen it.

        The rest of paid periods is credited. Open invoices stay to be paid; after that
        the wallet is erased.
        """
        tenant = tenant_for(self.caller, pubkey)
        self.validated_body(EmptySerializer)
        if not close_tenant(tenant_id=tenant.pk):
            raise TenantClosed("This account is closed.")
        tenant.refresh_from_db()
        return success(serializers.TenantDetailSerializer(tenant).data)


class TenantCreditView(ApiView):
    permission_classes = [IsAuthenticated]
    costly_methods = frozenset({"GET", "HEAD"})

    @describe(
        "Get a tenant's credit",
        response=serializers.CreditSerializer,
        errors=[UnknownTenant, *STRIPE_ERRORS, Overloaded],
    )
    def get(self, request: Request, pubkey: str) -> Response:
        """Return the credit that will reduce the tenant's next invoices."""
        self.forbid_query()
        tenant = tenant_for(self.caller, pubkey)
        with self.concurrency_limit():
            credit = get_credit(tenant_id=tenant.pk)
        return success(serializers.CreditSerializer(credit).data)


class TenantRelaysView(ApiView):
    permission_classes = [IsAuthenticated]

    @describe(
        "List a tenant's relays",
        response=RelaySerializer,
        many=True,
        query=RelayListQuerySerializer,
        errors=[UnknownTenant],
    )
    def get(self, request: Request, pubkey: str) -> Response:
        """Return the tenant's relays, including inactive ones."""
        query = self.validated_query(RelayListQuerySerializer)
        tenant = tenant_for(self.caller, pubkey)
        rows = filter_relays(relays_for(self.caller).filter(tenant=tenant), query)
        order, limit = query["order"], query["limit"]
        return paginate(request, rows, RelaySerializer, order=order, limit=limit)


class TenantActivityView(ApiView):
    permission_classes = [IsAuthenticated]

    @describe(
        "List a tenant's activity",
        response=serializers.ActivitySerializer,
        many=True,
        query=serializers.ActivityListQuerySerializer,
        errors=[UnknownTenant],
    )
    def get(self, request: Request, pubkey: str) -> Response:
        """Return changes of an account and its relays, newest first."""
        query = self.validated_query(serializers.ActivityListQuerySerializer)
        tenant = tenant_for(self.caller, pubkey)
        return activity_page(request, Activity.objects.filter(tenant=tenant), query)


class PortalSessionView(ApiView):
    permission_classes = [IsAuthenticated]
    costly_methods = frozenset({"POST"})

    @describe(
        "Open Stripe's portal",
        response=serializers.PortalSessionSerializer,
        body=serializers.PortalSessionCreateSerializer,
        statuses=(201,),
        errors=[
            *(UnknownTenant, ReturnUrlInvalid, CustomerGone, WriteUnresolved),
            *STRIPE_ERRORS,
            Overloaded,
        ],
    )
    def post(self, request: Request, pubkey: str) -> Response:
        """Create a link to Stripe's portal for managing cards and reading invoices."""
        tenant = tenant_for(self.caller, pubkey)
        body = self.validated_body(serializers.PortalSessionCreateSerializer)
        return_url = _validated_return_url(body.get("return_url") or settings.APP_URL)
        with self.concurrency_limit():
            url = portal_session(pubkey=tenant.pk, return_url=return_url)
        return success({"url": url}, status=201)


def _validated_return_url(url: str) -> str:
    """Return the URL. Raises ReturnUrlInvalid unless its origin is allowed."""
    # Otherwise Stripe's page, which people trust, would be an open redirect.
    allowed = [settings.APP_URL, *settings.CORS_ALLOWED_ORIGINS]
    # With the slash: "https://app.example" is a prefix of "https://app.example.evil".
    if not any(url == base or url.startswith(f"{base}/") for base in allowed):
        raise ReturnUrlInvalid("return_url has an origin that is not allowed.")
    return url
