from argparse import Namespace
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from sandbox.lightning import __main__ as lightning
from sandbox.stripe import __main__ as stripe
from sandbox.zooid import __main__ as zooid

STAND_INS = {
    "stripe": stripe.serve,
    "lightning": lightning.serve,
    "zooid": zooid.serve,
}


class Command(BaseCommand):
    """Runs without database, broker and settings."""

    help = "Run a stand-in for a service that Caravel talks to. For development."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--only", choices=list(STAND_INS), default="stripe")
        stripe.add_arguments(parser.add_argument_group("stripe"))
        lightning.add_arguments(parser.add_argument_group("lightning"))
        zooid.add_arguments(parser.add_argument_group("zooid"))

    def handle(self, *args: Any, **options: Any) -> None:
        serve = STAND_INS[options["only"]]
        raise SystemExit(serve(Namespace(**options), explain=True))
