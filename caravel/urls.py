from django.contrib import admin
from django.urls import path

from billing.views import StripeWebhookView
from caravel import health

urlpatterns = [
    path("admin/", admin.site.urls),
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("stripe/webhook", StripeWebhookView.as_view(), name="stripe-webhook"),
]
