"""Beat stops on a signal, but not while it sends a message; it reads no file."""

import shelve
import signal
import threading
from datetime import timedelta
from pathlib import Path

import celery.beat
import pytest
import redis
import time_machine
from celery.beat import ScheduleEntry
from django.utils import timezone

from billing.tests.support import processes
from caravel.beat import Scheduler, defer_signals
from caravel.celery import app
from caravel.tests.support.waiting import join, wait_until


@pytest.fixture
def stop_handler():
    """Signal handler that stops as beat's does: by raising an exception."""

    def stop(signum, frame):
        raise SystemExit(signum)

    before = {
        signum: signal.signal(signum, stop)
        for signum in (signal.SIGTERM, signal.SIGINT)
    }
    yield stop
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_message_is_sent_before_beat_stops(stop_handler, monkeypatch, signum):
    sent = []

    def send(scheduler, entry, producer=None):
        signal.raise_signal(signum)
        sent.append((entry, producer))

    monkeypatch.setattr(celery.beat.Scheduler, "apply_entry", send)
    entry = ScheduleEntry("a job", app=app)
    scheduler = Scheduler(app=app, lazy=True)

    with pytest.raises(SystemExit) as caught:
        scheduler.apply_entry(entry, producer="producer")

    assert sent == [(entry, "producer")]
    assert caught.value.code == signum
    assert signal.getsignal(signum) is stop_handler


def test_two_deferred_signals_stop_beat_once(stop_handler):
    with pytest.raises(SystemExit), defer_signals():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)

    assert signal.getsignal(signal.SIGTERM) is stop_handler


def test_handler_is_restored_without_signal(stop_handler):
    with defer_signals():
        pass

    assert signal.getsignal(signal.SIGTERM) is stop_handler


def test_exception_during_deferral_is_context_of_stop(stop_handler):
    with pytest.raises(SystemExit) as caught, defer_signals():
        signal.raise_signal(signal.SIGTERM)
        raise ConnectionError

    assert isinstance(caught.value.__context__, ConnectionError)


def test_other_threads_do_not_change_handlers(stop_handler):
    handlers = []

    def work():
        with defer_signals():
            handlers.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    join(thread)

    assert handlers == [stop_handler]


def test_scheduler_is_configured_for_beat():
    assert app.conf.beat_scheduler == "caravel.beat:Scheduler"


def test_every_task_runs_within_a_minute_of_a_start_but_none_at_once():
    now = timezone.now()
    with time_machine.travel(now, tick=False):
        entries = Scheduler(app=app).schedule.values()
        at_once = [entry.name for entry in entries if entry.is_due().is_due]
    with time_machine.travel(now + timedelta(minutes=1), tick=False):
        later = [entry.name for entry in entries if not entry.is_due().is_due]

    assert {entry.name for entry in entries} == app.conf.beat_schedule.keys()
    assert (at_once, later) == ([], [])


START = """
import sys
from celery.__main__ import main
sys.argv = ["celery", "--app", "caravel", "beat", "--schedule", "{}"]
main()
"""


class Planted:
    """An object whose pickle creates a file when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.processes
@pytest.mark.django_db
def test_beat_runs_no_code_from_a_planted_schedule(settings, tmp_path):
    """Beat's own scheduler loads each object of its file: `celery/beat.py`."""
    mark = tmp_path / "code was run"
    with shelve.open(str(tmp_path / "schedule")) as planted:
        for key in ("__version__", "entries", "tz", "utc_enabled"):
            planted[key] = Planted(mark)
    with pytest.raises(TypeError), shelve.open(str(tmp_path / "schedule")) as planted:
        len(planted["entries"])
    mark.unlink()

    with redis.from_url(settings.REDIS_URL) as broker:
        broker.delete("default")
        start = START.format(tmp_path / "schedule")
        beat = processes.run(start, BEAT_WATCH_INVOICES="1")
        try:
            wait_until(lambda: broker.llen("default"), "the first message")
        finally:
            beat.kill()
            output, _ = beat.communicate()
            broker.delete("default")

    assert not mark.exists(), output
