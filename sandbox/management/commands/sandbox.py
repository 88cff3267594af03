from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from sandbox.stripe import __main__ as stripe


class Command(BaseCommand):
    help = "Run the stand-ins for the services that Caravel talks to. For development."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--only", choices=["stripe"], default="stripe")
        parser.add_argument("--port", default="12111")
        parser.add_argument("--state", help="SQLite file to keep the state in")

    def handle(self, *args: Any, port: str, state: str | None, **options: Any) -> None:
        arguments = ["--port", port, "--api-key", settings.STRIPE_SECRET_KEY]
        arguments += ["--state", state] if state else []
        arguments += ["--webhook-url", f"{settings.APP_URL}/stripe/webhook"]
        arguments += ["--webhook-secret", settings.STRIPE_WEBHOOK_SECRETS[0]]
        raise SystemExit(stripe.main(arguments))
