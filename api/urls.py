"""URLs of the JSON API. A view that declares no permission refuses everybody."""

from django.urls import path, re_path

from api.views import docs, exports, invoices, plans, relays, tenants
from api.views.base import NotFoundView

urlpatterns = [
    path("plans", plans.PlansView.as_view()),
    path("plans/<str:plan_id>", plans.PlanView.as_view()),
    path("identity", tenants.IdentityView.as_view()),
    path("tenants", tenants.TenantsView.as_view()),
    path("tenants/<str:pubkey>", tenants.TenantView.as_view()),
    path("tenants/<str:pubkey>/close", tenants.TenantCloseView.as_view()),
    path("tenants/<str:pubkey>/credit", tenants.TenantCreditView.as_view()),
    path("tenants/<str:pubkey>/relays", tenants.TenantRelaysView.as_view()),
    path("tenants/<str:pubkey>/invoices", invoices.TenantInvoicesView.as_view()),
    path("tenants/<str:pubkey>/activity", tenants.TenantActivityView.as_view()),
    path("tenants/<str:pubkey>/portal-session", tenants.PortalSessionView.as_view()),
    path("relays", relays.RelaysView.as_view()),
    path("relays/<uuid:relay_id>", relays.RelayView.as_view()),
    path("relays/<uuid:relay_id>/activate", relays.RelayActivateView.as_view()),
    path("relays/<uuid:relay_id>/deactivate", relays.RelayDeactivateView.as_view()),
    path("relays/<uuid:relay_id>/quote", relays.RelayQuoteView.as_view()),
    path("relays/<uuid:relay_id>/members", relays.RelayMembersView.as_view()),
    path("relays/<uuid:relay_id>/activity", relays.RelayActivityView.as_view()),
    path("relays/<uuid:relay_id>/exports", exports.RelayExportsView.as_view()),
    path(
        "relays/<uuid:relay_id>/exports/<str:export_id>",
        exports.RelayExportView.as_view(),
    ),
    path(
        "relays/<uuid:relay_id>/exports/<str:export_id>/file",
        exports.RelayExportFileView.as_view(),
    ),
    path("invoices/<str:invoice_id>", invoices.InvoiceDetailView.as_view()),
    path("invoices/<str:invoice_id>/bolt11", invoices.Bolt11View.as_view()),
    path("invoices/<str:invoice_id>/receipt", invoices.ReceiptView.as_view()),
    path("schema", docs.SchemaView.as_view(), name="api-schema"),
    path("docs", docs.DocsView.as_view(), name="api-docs"),
    # Last: unknown URLs under /api/ answer in JSON instead of with Django's page.
    re_path("", NotFoundView.as_view()),
]
