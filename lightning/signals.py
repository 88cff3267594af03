from typing import Any

import structlog
from celery.signals import worker_init, worker_ready
from django.db.models.signals import post_save
from django.dispatch import receiver
from kombu.exceptions import OperationalError

from lightning.checks import missing_wallet_errors
from lightning.models import NwcPayment
from lightning.services import own_wallets
from lightning.tasks import check_payment_hashes

logger = structlog.get_logger(__name__)


@receiver(post_save, sender=NwcPayment, dispatch_uid="lightning.payment_created")
def run_payment_on_create(
    sender: type[NwcPayment],
    instance: NwcPayment,
    created: bool,
    raw: bool,
    **kwargs: Any,
) -> None:
    if raw or not created:
        return
    instance.send_on_commit()


@worker_init.connect(dispatch_uid="lightning.wallets_present")
def refuse_missing_wallets(**kwargs: Any) -> None:
    """Refuse to start a worker without every wallet that may still be paid."""
    if errors := missing_wallet_errors():
        # Not an Exception: Celery only logs those of receivers.
        raise SystemExit("\n".join(errors))


@worker_ready.connect(dispatch_uid="lightning.listen")
def listen_for_payments(sender: Any = None, **kwargs: Any) -> None:
    """Listen to our wallets' notifications; polling finds the payments they miss."""
    queues = {queue.name for queue in sender.task_consumer.queues}
    if "lightning" not in queues:
        return
    for wallet in own_wallets.wallets():
        wallet.on_payment_received(check_notified_payments)


def check_notified_payments(payment_hashes: list[str]) -> None:
    """Enqueue the polling of invoices that were reported paid.

    If the broker is down the hint is lost, and beat polls them later.
    """
    try:
        check_payment_hashes.delay(payment_hashes)
    except OperationalError as exc:
        logger.warning("hints_lost", payment_hashes=payment_hashes, error=str(exc))
