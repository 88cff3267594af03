"""Round trips to the database that one batch of payments takes."""

import logging

from django.db import connection

from benchmarks.support.counterparts import Counterparts
from benchmarks.support.wallets.due import create_due
from lightning.services.payments import BATCH, run_payments


def round_trips(counterparts: Counterparts, number: int = BATCH) -> float:
    """Return the statements, with BEGIN and COMMIT, per payment of a batch."""
    due = create_due(counterparts, number, 0.0)
    connection.queries_log.clear()
    connection.force_debug_cursor = True
    logging.disable(logging.INFO)
    try:
        run_payments(payment_ids=list(due.values()))
    finally:
        logging.disable(logging.NOTSET)
        connection.force_debug_cursor = False
    return len(connection.queries_log) / number
