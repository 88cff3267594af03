from django.contrib import admin
from django.urls import path
from django.views.generic import RedirectView

from billing.views import StripeWebhookView

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
    path("stripe/webhook", StripeWebhookView.as_view(), name="stripe-webhook"),
]
