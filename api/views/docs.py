"""The API's description: OpenAPI for programs, Swagger UI for people."""

import hashlib
import inspect
import re
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any

from django.conf import settings
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.templatetags.static import static
from django.urls import get_resolver
from django.utils.cache import get_conditional_response
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer
from drf_spectacular.views import SpectacularSwaggerView
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from api.views.base import ApiView, NotFoundView, PublicView
from caravel.core.web.throttling import client_address, throttle

_building = Lock()


def openapi() -> tuple[bytes, str]:
    """Return the description in JSON and its ETag; a process builds it once."""
    # drf-spectacular loads its classes without a lock: threads that build at the same
    # time fail, https://github.com/tfranzel/drf-spectacular/blob/master/drf_spectacular/plumbing.py
    with _building:
        return _build()


@cache
def _build() -> tuple[bytes, str]:
    # Without a request: nothing in it depends on who asks.
    schema = SchemaGenerator().get_schema(request=None, public=True)
    body: bytes = OpenApiJsonRenderer().render(schema)
    return body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'


class SchemaView(PublicView):
    """`/api/schema`: OpenAPI 3.1 in JSON."""

    def get(self, request: Request) -> HttpResponseBase | None:
        """Return this description, in OpenAPI 3.1."""
        body, etag = openapi()
        response = HttpResponse(body, content_type=OpenApiJsonRenderer.media_type)
        response["ETag"] = etag
        return get_conditional_response(request._request, etag=etag, response=response)

    def finalize_response(
        self, request: Request, response: Response, *args: Any, **kwargs: Any
    ) -> Response:
        finalized = super().finalize_response(request, response, *args, **kwargs)
        # Kept by anybody, but asked for again: an update of Caravel may change it.
        finalized["Cache-Control"] = "public, no-cache"
        return finalized


class DocsView(SpectacularSwaggerView):
    """`/api/docs`: self-hosted Swagger UI; the browser's Nostr extension signs."""

    permission_classes = [AllowAny]
    authentication_classes = []
    url_name = "api-schema"
    template_name = "api/docs.html"

    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        address = client_address(request._request)
        throttle(settings.API_RATE_PER_ADDRESS, "api", "address", address)
        # drf-spectacular's views are not typed.
        parent: Any = super()
        response: Response = parent.get(request, *args, **kwargs)
        # Signs requests; the default inline script would also violate the policy.
        response.data["script_url"] = static("api/docs.js")
        response.data["operations"] = list_operations()
        response["Content-Security-Policy"] = _POLICY
        return response


@dataclass(frozen=True)
class Operation:
    """A method of a URL, with the first sentence of its description."""

    method: str
    path: str
    text: str


@cache
def list_operations() -> list[Operation]:
    """Return the API's operations, for browsers without JavaScript."""
    operations = []
    for pattern in get_resolver("api.urls").url_patterns:
        view = getattr(pattern.callback, "view_class", None)
        if view is None or not issubclass(view, ApiView) or view is NotFoundView:
            continue
        path = re.sub(r"<\w+:(\w+)>", r"{\1}", f"/api/{pattern.pattern}")
        for method in ("get", "post", "patch", "delete"):
            if handler := getattr(view, method, None):
                text = (inspect.getdoc(handler) or "").partition("\n\n")[0]
                operations.append(Operation(method.upper(), path, text))
    return operations


#: Swagger UI needs inline styles, and `data:` for the images in its style sheet.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data:; connect-src 'self'; form-action 'none';"
    " frame-ancestors 'none'; base-uri 'none'"
)
