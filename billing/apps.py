from importlib import import_module

from django.apps import AppConfig

from caravel.core.web.health import PROBES


class BillingConfig(AppConfig):
    name = "billing"

    def ready(self) -> None:
        import_module("billing.checks")
        import_module("billing.signals")
        account = import_module("billing.services.customers.stripe_account")
        transport = import_module("billing.clients.stripe.transport")
        transport.check_account = account.check_account
        PROBES["Stripe account"] = lambda: not account.process.mismatch
