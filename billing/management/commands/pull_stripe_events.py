from argparse import ArgumentTypeError
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from billing.clients.stripe.errors import StripeError
from billing.clients.stripe.events import MAX_DAYS
from billing.services.pull.events import pull_events_since


class Command(BaseCommand):
    help = "Store and process the events that no webhook has delivered."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--days",
            type=_days,
            default=3,
            help=f"how far back, at most {MAX_DAYS}; default 3",
        )
        parser.add_argument(
            "--undelivered",
            action="store_true",
            help="only events that an endpoint has not acknowledged",
        )

    def handle(self, *args: Any, days: int, undelivered: bool, **options: Any) -> None:
        since = timezone.now() - timedelta(days=days)
        try:
            count = pull_events_since(since, undelivered=undelivered)
        except StripeError as exc:
            raise CommandError(str(exc)) from exc
        self.stdout.write(f"{count} events stored")


def _days(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_DAYS:
        raise ArgumentTypeError(f"must be a number from 1 to {MAX_DAYS}")
    return int(text)
