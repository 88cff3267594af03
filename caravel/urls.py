"""URLs of the whole site."""

from django.conf import settings
from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

_ICON = f"{settings.STATIC_URL}billing/icon.svg"

urlpatterns = [
    path("api/", include("api.urls")),
    # Browsers request it from every host, also where no page links to an icon.
    path("favicon.ico", RedirectView.as_view(url=_ICON)),
    path("admin/", admin.site.urls),
    path("", include("billing.urls")),
    path("", include("tenants.urls")),
    path("", include("relays.urls")),
]

handler500 = "caravel.core.web.envelope.server_error"
