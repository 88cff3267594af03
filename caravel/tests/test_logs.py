import io
import json
import logging
import os
import subprocess
import sys
from contextlib import contextmanager

import structlog
from django_structlog.celery.receivers import CeleryReceiver

from caravel.logs import MAX_TRACEBACK, MAX_VALUE
from caravel.tasks import mail_alert
from caravel.tests.support import secret_scanner


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


@contextmanager
def recorded_lines(tmp_path, logger):
    """The lines that production would write."""
    path = tmp_path / "lines.log"
    lines: list[dict[str, str]] = []
    with secret_scanner.recording(path, logging.getLogger(logger)):
        yield lines
    lines += map(json.loads, path.read_text().splitlines())


def test_long_path_of_request_is_cut_before_it_is_logged(client, db, tmp_path):
    path = "/" + "secret" * 2_000

    with recorded_lines(tmp_path, "django_structlog.middlewares.request") as lines:
        client.get(path, headers={"User-Agent": "secret" * 2_000})

    assert [line["event"] for line in lines] == ["request_started", "request_finished"]
    assert all(len(line["request"]) < MAX_VALUE + 100 for line in lines)
    assert len(lines[0]["user_agent"]) < MAX_VALUE + 100


def test_long_texts_of_libraries_and_tracebacks_are_cut(tmp_path):
    with recorded_lines(tmp_path, "some.library") as lines:
        try:
            raise ValueError("x" * 1_000_000)
        except ValueError:
            logging.getLogger("some.library").exception("got %s", "y" * 1_000_000)

    (line,) = lines
    assert len(line["event"]) < MAX_VALUE + 100
    assert line["exception"].startswith("Traceback")
    assert len(line["exception"]) < MAX_TRACEBACK + 100


def test_request_with_a_wrong_host_is_a_warning_without_a_traceback(
    client, db, tmp_path
):
    with recorded_lines(tmp_path, "django.security.DisallowedHost") as lines:
        response = client.get("/", headers={"Host": "scanner.example"})

    assert response.status_code == 400
    (line,) = lines
    assert line["level"] == "warning" and "exception" not in line
    assert "add 'scanner.example' to ALLOWED_HOSTS" in line["event"]


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
