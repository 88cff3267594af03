from django.urls import path

from tenants.views import ConfirmEmailView, StopEmailView

urlpatterns = [
    path("confirm-email/<str:token>", ConfirmEmailView.as_view(), name="confirm-email"),
    path("stop-email/<str:token>", StopEmailView.as_view(), name="stop-email"),
]
