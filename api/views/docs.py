"""The API's description: OpenAPI for programs, Swagger UI for people."""

from typing import Any

from django.templatetags.static import static
from drf_spectacular.renderers import OpenApiJsonRenderer
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response


class SchemaView(SpectacularAPIView):
    """`/api/schema`: OpenAPI 3.1 in JSON."""

    permission_classes = [AllowAny]
    authentication_classes = []
    renderer_classes = [OpenApiJsonRenderer]


class DocsView(SpectacularSwaggerView):
    """`/api/docs`: self-hosted Swagger UI; the browser's Nostr extension signs."""

    permission_classes = [AllowAny]
    authentication_classes = []
    url_name = "api-schema"
    template_name = "api/docs.html"

    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        # drf-spectacular's views are not typed.
        parent: Any = super()
        response: Response = parent.get(request, *args, **kwargs)
        # Signs requests; the default inline script would also violate the policy.
        response.data["script_url"] = static("api/docs.js")
        response["Content-Security-Policy"] = _POLICY
        return response


#: Swagger UI needs inline styles, and `data:` for the images in its style sheet.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data:; connect-src 'self'; form-action 'none';"
    " frame-ancestors 'none'; base-uri 'none'"
)
