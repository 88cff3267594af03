from celery import shared_task

from lightning.services import invoice_status, payments, wallet_proofs


@shared_task(queue="lightning")
def run_nwc_payment(*payment_ids: int) -> None:
    payments.run_payments(payment_ids=payment_ids)


# Not in the payments' queue, where tenants' slow wallets may occupy every thread.
@shared_task(name="lightning.tasks.ask_wallet")
def poll_wallet(pubkey: str) -> None:
    invoice_status.poll_wallet(pubkey=pubkey)


@shared_task
def check_payment_hashes(payment_hashes: list[str]) -> None:
    invoice_status.check_payment_hashes(payment_hashes=payment_hashes)


@shared_task
def watch_invoices() -> None:
    poll_wallet.delay_many(invoice_status.wallets_to_poll())


@shared_task
def check_decided_invoices() -> None:
    invoice_status.check_decided_invoices()


@shared_task
def prove_wallet(pubkey: str) -> None:
    wallet_proofs.advance_proof(pubkey=pubkey)


@shared_task
def prove_wallets() -> None:
    prove_wallet.delay_many(wallet_proofs.due_wallets())


@shared_task
def resolve_payments() -> None:
    """Enqueue attempts that need their wallet; polling resolves the others."""
    for payment_ids in payments.claim_unfinished():
        run_nwc_payment.delay(*payment_ids)
