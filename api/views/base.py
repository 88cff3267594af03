"""What all views of the API share."""

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
    """A view for who has signed the request, if its permissions let them.

    Addresses are throttled before anything is looked at, keys once they are known.
    """

    authentication_classes = [NostrAuthentication]
    content_negotiation_class = AlwaysJson
    http_method_names = ["get", "head", "post", "patch"]
    #: The methods that make us ask others for something new.
    costly: frozenset[str] = frozenset()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        address = client_address(request._request)
        throttle(settings.API_RATE_PER_ADDRESS, "api", "address", address)
        super().initial(request, *args, **kwargs)
        self._throttle_key(request)

    @contextmanager
    def concurrency_limit(self, *holders: str) -> Iterator[None]:
        """Wait for others in a lane of the caller's, not too long. Raises Busy."""
        address = client_address(self.request._request)
        names = (f"key {self.caller.pubkey}", f"address {address}", *holders)
        with concurrency_limit(*names), interactive():
            yield

    @property
    def caller(self) -> Caller:
        """Who signed the request."""
        return cast(Caller, self.request.user)

    def params(self, serializer: type[serializers.Serializer[Any]]) -> dict[str, Any]:
        """Return the query, read. Raises UnknownParameter or InvalidParameter."""
        try:
            given = self.request.query_params.dict()
        except TooManyFieldsSent as exc:
            raise UnknownParameter("There are far too many parameters.") from exc
        form = serializer(data=given)
        if unknown := given.keys() - form.fields.keys():
            names = ", ".join(sorted(form.fields)) or "none"
            first = min(unknown)[:40]
            raise UnknownParameter(
                f"{first!a} is unknown; the parameters are: {names}."
            )
        if not form.is_valid():
            name, errors = next(iter(form.errors.items()))
            raise InvalidParameter(f"{name}: {errors[0]}")
        return dict(form.validated_data)

    def forbid_query(self) -> None:
        """Raise UnknownParameter if there is a query."""
        self.params(serializers.Serializer)

    def given(
        self, serializer: type[serializers.Serializer[Any]], *, partial: bool = False
    ) -> dict[str, Any]:
        """Return the body, read. Raises ValidationError with what is wrong with it.

        Nothing is taken from a query: raises UnknownParameter if there is one.
        """
        self.forbid_query()
        form = serializer(data=self.request.data, partial=partial)
        form.is_valid(raise_exception=True)
        return dict(form.validated_data)

    def finalize_response(
        self, request: Request, response: Response, *args: Any, **kwargs: Any
    ) -> Response:
        """Let no cache keep what is for one caller only."""
        answer = super().finalize_response(request, response, *args, **kwargs)
        answer["Cache-Control"] = "no-store, private"
        return answer

    def handle_exception(self, exc: Exception) -> Response:
        """Say with «pay first» where to."""
        response = super().handle_exception(exc)
        if isinstance(exc, PaymentRequired):
            response.data["payment_url"] = oldest_unpaid_link(exc.tenant_id)
        return response

    def _throttle_key(self, request: Request) -> None:
        if not request.user:
            return
        throttle(settings.API_RATE_PER_KEY, "api", "key", self.caller.pubkey)
        if request.method in self.costly:
            throttle(settings.API_RATE_COSTLY, "api", "costly", self.caller.pubkey)


class PublicView(ApiView):
    """A view for everybody."""

    authentication_classes = []
    permission_classes = [AllowAny]


class NotFoundView(PublicView):
    """What is asked for under /api/ and is not there."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        raise NotFound("There is nothing at this address: see /api/docs.")
