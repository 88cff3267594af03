import getpass
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from caravel.core.exceptions import CaravelError
from caravel.nostr import parse_pubkey
from lightning.services.wallets import WalletCheck, connect_wallet, disconnect_wallet
from tenants.models import Tenant


class Command(BaseCommand):
    """Reads the address from a prompt or standard input, since it is a secret."""

    help = "Check that a wallet can pay, and connect it to a tenant."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("tenant", help="an npub, or 64 hex digits")
        parser.add_argument(
            "--remove", action="store_true", help="disconnect the wallet"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            pubkey = parse_pubkey(options["tenant"])
            Tenant.objects.get(pk=pubkey)
            if options["remove"]:
                disconnect_wallet(pubkey=pubkey)
                self.stdout.write("The tenant's wallet is disconnected.")
                return
            check = connect_wallet(pubkey=pubkey, nwc_url=_read_address())
        except CaravelError as exc:
            raise CommandError(str(exc)) from exc
        except Tenant.DoesNotExist as exc:
            raise CommandError("There is no such tenant.") from exc
        self.stdout.write(_describe(check))


def _read_address() -> str:
    if sys.stdin.isatty():
        return getpass.getpass("Wallet address (nostr+walletconnect://…): ")
    return sys.stdin.readline()


def _describe(check: WalletCheck) -> str:
    parts = [f"Connected {check.alias or 'the wallet'} at {check.hosts}."]
    if check.budget:
        left, total = check.budget.left_msat // 1000, check.budget.total_msat // 1000
        parts.append(f"It may spend {left} of {total} sats.")
    if check.expires_at:
        parts.append(f"The connection ends {check.expires_at:%Y-%m-%d %H:%M} UTC.")
    return " ".join([*parts, *check.left_out])
