from django.urls import path

from billing.views.home import home
from billing.views.open_invoices import OpenInvoicesView
from billing.views.payment_page import CardView, PaymentPageView
from billing.views.payment_status import PaymentStatusView
from billing.views.receipt_files import ReceiptFileView
from billing.views.relay_payment import RelayPaymentView
from billing.views.webhooks import PATH, stripe_webhook

urlpatterns = [
    path("", home, name="home"),
    path("pay/<str:token>", PaymentPageView.as_view(), name="pay"),
    path("pay/<str:token>/all", OpenInvoicesView.as_view(), name="pay-all"),
    path("pay/<str:token>/card", CardView.as_view(), name="pay-card"),
    path("pay/<str:token>/status", PaymentStatusView.as_view(), name="pay-status"),
    path(
        "pay/<str:token>/receipt.pdf",
        ReceiptFileView.as_view(extension="pdf"),
        name="receipt-pdf",
    ),
    path(
        "pay/<str:token>/receipt.json",
        ReceiptFileView.as_view(extension="json"),
        name="receipt-json",
    ),
    path(
        "relay-payment/<uuid:relay_id>",
        RelayPaymentView.as_view(),
        name="relay-payment",
    ),
    path(PATH, stripe_webhook, name="stripe-webhook"),
]
