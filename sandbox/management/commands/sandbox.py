import os
from argparse import Namespace
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from caravel import dev_defaults
from sandbox.lightning import __main__ as lightning
from sandbox.stripe import __main__ as stripe
from sandbox.zooid import __main__ as zooid

STAND_INS: dict[str, Any] = {"stripe": stripe, "lightning": lightning, "zooid": zooid}
#: Variables of the environment whose default is this checkout's, by stand-in.
DEFAULTS = {"lightning": "SANDBOX_SEED", "zooid": "ROBOT_SECRET"}


class Command(BaseCommand):
    """Runs without database, broker and settings."""

    help = "Run a stand-in for a service that Caravel talks to. For development."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--only", choices=list(STAND_INS), default="stripe")
        for name, stand_in in STAND_INS.items():
            stand_in.add_arguments(parser.add_argument_group(name))

    def handle(self, *args: Any, **options: Any) -> None:
        serve = STAND_INS[options["only"]].serve
        variable = DEFAULTS.get(options["only"])
        if variable and not os.environ.get(variable):
            os.environ[variable] = dev_defaults.defaults(settings.VAR)[variable]
        raise SystemExit(serve(Namespace(**options), explain=True))
