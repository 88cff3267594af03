from typing import Any

from django.conf import settings
from rest_framework.request import Request
from rest_framework.response import Response

from api.access import relays_for, tenant_for
from api.exceptions import STRIPE, FieldForbidden
from api.lists import paginate
from api.schema import describe
from api.serializers import tenants as forms
from api.serializers.base import EmptySerializer
from api.serializers.relays import RelayListParams, RelaySerializer
from api.views.base import ApiView
from api.views.filters import activities, filtered_relays
from billing.exceptions import CustomerGone, ReturnUrlInvalid, WriteUnresolved
from billing.services.customers.portal import portal_session
from caravel.core.exceptions import Forbidden
from caravel.core.web.envelope import success
from caravel.core.web.permissions import IsAdmin, IsAuthenticated
from caravel.core.web.throttling import Overloaded
from caravel.nostr import npub
from lightning.exceptions import InvalidWalletUrl, WalletUnusable
from lightning.services.wallets import connect_wallet, disconnect_wallet
from tenants.exceptions import UnknownTenant
from tenants.models import Activity, Tenant
from tenants.services.tenants import get_or_create_tenant, update_tenant


class IdentityView(ApiView):
    permission_classes = [IsAuthenticated]

    @describe("Tell who I am", answer=forms.IdentitySerializer)
    def get(self, request: Request) -> Response:
        """What the signature says of the caller; nothing is created by it."""
        self.forbid_query()
        pubkey = self.caller.pubkey
        identity = {
            "pubkey": pubkey,
            "npub": npub(pubkey),
            "is_admin": self.caller.is_admin,
            "is_tenant": Tenant.objects.filter(pk=pubkey).exists(),
        }
        return success(forms.IdentitySerializer(identity).data)


class TenantsView(ApiView):
    def get_permissions(self) -> list[Any]:
        return [
            IsAdmin() if self.request.method in {"GET", "HEAD"} else IsAuthenticated()
        ]

    @describe(
        "List the tenants",
        answer=forms.TenantSerializer,
        many=True,
        query=forms.TenantListParams,
        errors=[Forbidden],
    )
    def get(self, request: Request) -> Response:
        """All tenants; for operators."""
        params = self.params(forms.TenantListParams)
        rows = Tenant.objects.all()
        if (closed := params["closed"]) is not None:
            rows = rows.filter(closed_at__isnull=not closed)
        if (owing := params["owing"]) is not None:
            rows = rows.filter(payment_overdue_since__isnull=not owing)
        order, limit = params["order"], params["limit"]
        return paginate(request, rows, forms.TenantSerializer, order=order, limit=limit)

    @describe(
        "Open my account",
        answer=forms.TenantDetailSerializer,
        body=EmptySerializer,
        statuses=(200, 201),
    )
    def post(self, request: Request) -> Response:
        """Make the caller a tenant; 201 if they were none, 200 if they were."""
        self.given(EmptySerializer)
        tenant, is_new = get_or_create_tenant(pubkey=self.caller.pubkey)
        data = forms.TenantDetailSerializer(tenant).data
        return success(data, status=201 if is_new else 200)


class TenantView(ApiView):
    permission_classes = [IsAuthenticated]
    costly = frozenset({"PATCH"})

    @describe(
        "Get a tenant", answer=forms.TenantDetailSerializer, errors=[UnknownTenant]
    )
    def get(self, request: Request, pubkey: str) -> Response:
        """One's own account, by hex or npub."""
        self.forbid_query()
        tenant = tenant_for(self.caller, pubkey)
        return success(forms.TenantDetailSerializer(tenant).data)

    @describe(
        "Change a tenant",
        answer=forms.TenantDetailSerializer,
        body=forms.TenantUpdateSerializer,
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
            "Disconnect it": {"nwc_url": ""},
            "Get notices by e-mail": {"email": "ann@example.com"},
        },
    )
    def patch(self, request: Request, pubkey: str) -> Response:
        """Change what is given, all or nothing.

        A wallet is asked whether it can pay, then charged, unless `autopay_paused`.
        """
        tenant = tenant_for(self.caller, pubkey)
        changes = self.given(forms.TenantUpdateSerializer, partial=True)
        if "dunning_exempt" in changes and not self.caller.is_admin:
            raise FieldForbidden("Only an operator may set dunning_exempt.")
        self._change(tenant.pk, **changes)
        tenant.refresh_from_db()
        return success(forms.TenantDetailSerializer(tenant).data)

    def _change(self, pubkey: str, nwc_url: str | None = None, **changes: Any) -> None:
        if nwc_url:
            # Whom the caller names may be silent on purpose.
            with self.concurrency_limit("strangers"):
                connect_wallet(pubkey=pubkey, nwc_url=nwc_url, **changes)
        elif nwc_url is not None:
            disconnect_wallet(pubkey=pubkey, **changes)
        elif changes:
            update_tenant(pubkey=pubkey, **changes)


class TenantRelaysView(ApiView):
    permission_classes = [IsAuthenticated]

    @describe(
        "List a tenant's relays",
        answer=RelaySerializer,
        many=True,
        query=RelayListParams,
        errors=[UnknownTenant],
    )
    def get(self, request: Request, pubkey: str) -> Response:
        """The relays of one tenant, switched off ones too."""
        params = self.params(RelayListParams)
        tenant = tenant_for(self.caller, pubkey)
        rows = filtered_relays(relays_for(self.caller).filter(tenant=tenant), params)
        order, limit = params["order"], params["limit"]
        return paginate(request, rows, RelaySerializer, order=order, limit=limit)


class TenantActivityView(ApiView):
    permission_classes = [IsAuthenticated]

    @describe(
        "List a tenant's activity",
        answer=forms.ActivitySerializer,
        many=True,
        query=forms.ActivityListParams,
        errors=[UnknownTenant],
    )
    def get(self, request: Request, pubkey: str) -> Response:
        """What happened to an account and its relays."""
        params = self.params(forms.ActivityListParams)
        tenant = tenant_for(self.caller, pubkey)
        return activities(request, Activity.objects.filter(tenant=tenant), params)


class PortalSessionView(ApiView):
    permission_classes = [IsAuthenticated]
    costly = frozenset({"POST"})

    @describe(
        "Open Stripe's portal",
        answer=forms.PortalSessionSerializer,
        body=forms.PortalSessionRequest,
        statuses=(201,),
        errors=[
            *(UnknownTenant, ReturnUrlInvalid, CustomerGone, WriteUnresolved),
            *STRIPE,
            Overloaded,
        ],
    )
    def post(self, request: Request, pubkey: str) -> Response:
        """Make a link to Stripe's page where cards are managed and invoices read."""
        tenant = tenant_for(self.caller, pubkey)
        wanted = self.given(forms.PortalSessionRequest)
        return_url = _safe(wanted.get("return_url") or settings.APP_URL)
        with self.concurrency_limit():
            url = portal_session(pubkey=tenant.pk, return_url=return_url)
        return success({"url": url}, status=201)


def _safe(url: str) -> str:
    """Return the address. Raises ReturnUrlInvalid unless it is ours or a friend's."""
    known = [settings.APP_URL, *settings.CORS_ALLOWED_ORIGINS]
    if not any(url == base or url.startswith(f"{base}/") for base in known):
        raise ReturnUrlInvalid("return_url leads elsewhere.")
    return url
