"""Beat stops on a signal, but not while it sends a message."""

import signal
import threading

import pytest
from celery.beat import PersistentScheduler, ScheduleEntry

from caravel.beat import Scheduler, defer_signals
from caravel.celery import app
from caravel.tests.support.waiting import join


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
def test_message_is_sent_before_beat_stops(stop_handler, monkeypatch, tmp_path, signum):
    sent = []

    def send(scheduler, entry, producer=None):
        signal.raise_signal(signum)
        sent.append((entry, producer))

    monkeypatch.setattr(PersistentScheduler, "apply_entry", send)
    filename = str(tmp_path / "schedule")
    entry = ScheduleEntry("a job", app=app)
    scheduler = Scheduler(app=app, schedule_filename=filename, lazy=True)

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
