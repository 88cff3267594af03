from importlib import import_module

from django.apps import AppConfig

from caravel.core.web.health import PROBES


class BillingConfig(AppConfig):
    name = "billing"

    def ready(self) -> None:
        import_module("billing.checks")
        import_module("billing.signals")
        from billing.clients.stripe import transport
        from billing.services.customers import stripe_account

        transport.check_account = stripe_account.check_account
        PROBES["Stripe account"] = lambda: not stripe_account.process.mismatch
