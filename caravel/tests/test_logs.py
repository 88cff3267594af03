import io
import logging
import os
import subprocess
import sys

import structlog
from django_structlog.celery.receivers import CeleryReceiver

from caravel.tasks import mail_alert


def test_configured_secrets_are_masked_in_all_loggers_and_tracebacks(settings):
    secrets = [settings.SECRET_KEY, *settings.ENCRYPTION_KEYS]

    output = io.StringIO()
    (handler,) = (
        handler
        for handler in logging.getLogger().handlers
        if type(handler) is logging.StreamHandler
    )
    stream = handler.setStream(output)
    try:
        raise RuntimeError(f"failed with {secrets[0]}")
    except RuntimeError:
        logging.getLogger("some.library").exception("oh %s", secrets[1])
        structlog.get_logger("ours").exception("event", value=secrets[1])
    finally:
        handler.setStream(stream)

    assert "oh [redacted]" in output.getvalue()
    assert "RuntimeError" in output.getvalue()
    assert not any(secret in output.getvalue() for secret in secrets)


RAISING_SCRIPT = """
import os, django
os.environ["DJANGO_SETTINGS_MODULE"] = "caravel.settings"
django.setup()
import structlog
hidden = "-".join(["not", "to", "be", "shown"])
try:
    1 / 0
except ZeroDivisionError:
    structlog.get_logger("caravel").exception("it_failed")
"""


def test_console_traceback_shows_no_local_variables(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "CARAVEL_ENV"}
    environment |= {"DEBUG": "true", "CARAVEL_VAR": str(tmp_path)}

    process = subprocess.run(
        [sys.executable, "-c", RAISING_SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert "ZeroDivisionError" in process.stderr + process.stdout
    assert "not-to-be-shown" not in process.stderr + process.stdout


def test_log_lines_of_a_task_name_it():
    CeleryReceiver().receiver_task_prerun("an id", mail_alert)
    try:
        bound = structlog.contextvars.get_contextvars()
    finally:
        structlog.contextvars.clear_contextvars()

    assert bound == {"task_id": "an id", "task": "caravel.tasks.mail_alert"}


def test_refused_request_is_logged_once(client, caplog):
    with caplog.at_level("INFO"):
        client.get("/api/tenants")

    assert [record.name for record in caplog.records] == [
        "django_structlog.middlewares.request"
    ]
