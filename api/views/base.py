"""Base classes of the API's views."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from django.conf import settings
from django.core.exceptions import TooManyFieldsSent
from rest_framework import serializers
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from api.exceptions import InvalidParameter, UnknownParameter
from billing.clients.stripe.transport import interactive
from billing.services.invoices.payment_link import oldest_unpaid_link
from caravel.core.exceptions import NotFound
from caravel.core.web.envelope import AlwaysJson
from caravel.core.web.throttling import client_address, concurrency_limit, throttle
from relays.exceptions import PaymentRequired
from tenants.authentication import Caller, NostrAuthentication


class ApiView(APIView):
    """A view for signed requests, throttled by address and by key."""

    authentication_classes = [NostrAuthentication]
    content_negotiation_class = AlwaysJson
    http_method_names = ["get", "head", "post", "patch", "delete"]
    #: HTTP methods that call a wallet, an exchange, Stripe or zooid, or export a relay;
    #: these have a rate limit of their own.
    costly_methods: frozenset[str] = frozenset()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        # By address first: verifying a signature costs CPU time and writes a row, and a
        # key is only known afterwards.
        address = client_address(request._request)
        throttle(settings.API_RATE_PER_ADDRESS, "api", "address", address)
        super().initial(request, *args, **kwargs)
        self._throttle_key(request)

    @contextmanager
    def concurrency_limit(self, shared_key: str = "") -> Iterator[None]:
        """Limit slow upstream calls per key and address. Raises Overloaded.

        Calls with a shared key get half of the slots in total; of these, a key or an
        address gets one.
        """
        address = client_address(self.request._request)
        names = (f"key {self.caller.pubkey}", f"address {address}")
        exclusive = [f"{shared_key} of {name}" for name in names if shared_key]
        # Interactive: one short try at Stripe, since a thread and a client wait for it.
        with concurrency_limit(*names, shared_key, exclusive=exclusive), interactive():
            yield

    @property
    def caller(self) -> Caller:
        """The key that signed the request."""
        return cast(Caller, self.request.user)

    def validated_query(
        self, serializer_class: type[serializers.Serializer[Any]]
    ) -> dict[str, Any]:
        """Return the query parameters. Raises UnknownParameter or InvalidParameter."""
        try:
            query = self.request.query_params.dict()
        except TooManyFieldsSent as exc:
            raise UnknownParameter("There are too many parameters.") from exc
        serializer = serializer_class(data=query)
        # A misspelt filter must not return the unfiltered list.
        if unknown := query.keys() - serializer.fields.keys():
            names = ", ".join(sorted(serializer.fields)) or "none"
            # Shortened and in ASCII: the caller's own text goes into the message.
            first = min(unknown)[:40]
            raise UnknownParameter(f"Unknown parameter {first!a}; allowed: {names}.")
        if not serializer.is_valid():
            name, errors = next(iter(serializer.errors.items()))
            raise InvalidParameter(f"{name}: {errors[0]}")
        return dict(serializer.validated_data)

    def forbid_query(self) -> None:
        """Raise UnknownParameter if there is a query."""
        self.validated_query(serializers.Serializer)

    def validated_body(
        self,
        serializer_class: type[serializers.Serializer[Any]],
        *,
        partial: bool = False,
    ) -> dict[str, Any]:
        """Return the validated body.

        Raises ValidationError, or UnknownParameter if there is a query as well.
        """
        self.forbid_query()
        serializer = serializer_class(data=self.request.data, partial=partial)
        serializer.is_valid(raise_exception=True)
        return dict(serializer.validated_data)

    def finalize_response(
        self, request: Request, response: Response, *args: Any, **kwargs: Any
    ) -> Response:
        """Forbid caching."""
        # Responses are for one key; payment and portal URLs in them are credentials.
        finalized = super().finalize_response(request, response, *args, **kwargs)
        finalized["Cache-Control"] = "no-store, private"
        return finalized

    def handle_exception(self, exc: Exception) -> Response:
        """Add the payment page's URL when the caller has to pay first."""
        response = super().handle_exception(exc)
        if isinstance(exc, PaymentRequired):
            response.data["payment_url"] = oldest_unpaid_link(exc.tenant_id)
        return response

    def _throttle_key(self, request: Request) -> None:
        # A public view has no caller.
        if not request.user:
            return
        throttle(settings.API_RATE_PER_KEY, "api", "key", self.caller.pubkey)
        if request.method in self.costly_methods:
            self.throttle_costly()

    def throttle_costly(self) -> None:
        """Count a request to a slow service, as one of `costly_methods`."""
        throttle(settings.API_RATE_COSTLY, "api", "costly", self.caller.pubkey)


class PublicView(ApiView):
    """A view that needs no signature."""

    # No authentication at all: an invalid Authorization header does not fail either.
    authentication_classes = []
    permission_classes = [AllowAny]


class NotFoundView(PublicView):
    """Unknown URLs under /api/."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        raise NotFound("There is no such URL; see /api/docs.")
