from time import sleep
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from caravel.core.exceptions import CaravelError
from lightning.models import WalletProof
from lightning.services import own_wallets, wallet_proofs


class Command(BaseCommand):
    """Does what beat does by itself, but at once, and waits for the result."""

    help = (
        "Prove that the wallets in ROBOT_WALLET can tell an unpaid invoice from a paid "
        "one. Takes four minutes, or an hour for a wallet without `state`. "
        "Wallets that have passed are not asked again."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        proofs = [self._prove(wallet.uri.pubkey) for wallet in own_wallets.wallets()]
        if any(proof.state != WalletProof.State.PASSED for proof in proofs):
            raise CommandError("Not all wallets have passed.")

    def _prove(self, pubkey: str) -> WalletProof:
        try:
            proof = wallet_proofs.advance_proof(pubkey=pubkey, must_start=True)
            while proof.state == WalletProof.State.PENDING and not proof.reason:
                self._wait(proof)
                proof = wallet_proofs.advance_proof(pubkey=pubkey)
        except CaravelError as exc:
            raise CommandError(str(exc)) from exc
        self.stdout.write(f"{pubkey} {proof.state} {proof.network} {proof.reason}")
        return proof

    def _wait(self, proof: WalletProof) -> None:
        until = f"{proof.due_at:%H:%M:%S} UTC"
        self.stdout.write(f"{proof.pk} said: {proof.answer_before}; next at {until}.")
        self.stdout.flush()
        sleep(max(0.0, (proof.due_at - timezone.now()).total_seconds()))
