from django.contrib import admin
from django.urls import path

from billing.views import StripeWebhookView

urlpatterns = [
    path("admin/", admin.site.urls),
    path("stripe/webhook", StripeWebhookView.as_view(), name="stripe-webhook"),
]
