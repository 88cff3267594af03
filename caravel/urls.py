"""URLs of the whole site."""

from django.conf import settings
from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from billing.views.payment_page import CardView, PaymentPageView
from billing.views.payment_status import PaymentStatusView
from billing.views.webhooks import StripeWebhookView

_ICON = f"{settings.STATIC_URL}billing/icon.svg"

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("api/", include("api.urls")),
    # Browsers request it even if a page names another icon.
    path("favicon.ico", RedirectView.as_view(url=_ICON)),
    path("admin/", admin.site.urls),
    path("pay/<str:token>", PaymentPageView.as_view(), name="pay"),
    path("pay/<str:token>/card", CardView.as_view(), name="pay-card"),
    path("pay/<str:token>/status", PaymentStatusView.as_view(), name="pay-status"),
    path("stripe/webhook", StripeWebhookView.as_view(), name="stripe-webhook"),
]

handler500 = "caravel.core.web.envelope.server_error"
