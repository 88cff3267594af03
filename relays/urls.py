from django.urls import path

from relays.views import ExportView

urlpatterns = [
    path("exports/<str:token>", ExportView.as_view(), name="relay-export"),
]
