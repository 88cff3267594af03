from argparse import Namespace
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from sandbox.stripe import __main__ as stripe


class Command(BaseCommand):
    """Needs neither database nor broker, and of the settings none."""

    help = "Run the stand-ins for the services that Caravel talks to. For development."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--only", choices=["stripe"], default="stripe")
        stripe.add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        raise SystemExit(stripe.serve(Namespace(**options), explain=True))
