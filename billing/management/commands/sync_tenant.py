from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.models import SubscriptionSync
from billing.services.subscriptions.sync import SyncOutcome, sync_tenant
from billing.services.sync.queue import mark_stale
from caravel.core.exceptions import CaravelError
from caravel.nostr import parse_pubkey
from tenants.models import Tenant


class Command(BaseCommand):
    help = "Sync one tenant's subscription with its relays now, and print the outcome."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("pubkey", help="64 hex digits or an npub")

    def handle(self, *args: Any, pubkey: str, **options: Any) -> None:
        try:
            tenant = Tenant.objects.filter(pk=parse_pubkey(pubkey)).first()
        except CaravelError as exc:
            raise CommandError(str(exc)) from exc
        if tenant is None:
            raise CommandError("There is no such tenant.")
        mark_stale(tenant_id=tenant.pk)
        outcome = sync_tenant(tenant_id=tenant.pk)
        if outcome is SyncOutcome.FAILED:
            sync = SubscriptionSync.objects.get(pk=tenant.pk)
            raise CommandError(f"{outcome}: {sync.last_error}")
        self.stdout.write(outcome)
