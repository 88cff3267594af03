"""Beat ends when it is told to, and not in the middle of a message."""

import signal
import threading

import pytest
from celery.beat import PersistentScheduler, ScheduleEntry

from caravel.beat import Scheduler, defer_signals
from caravel.celery import app


@pytest.fixture
def ends():
    """Ends as beat does, by an exception of the handler."""

    def end(signum, frame):
        raise SystemExit(signum)

    before = {
        each: signal.signal(each, end) for each in (signal.SIGTERM, signal.SIGINT)
    }
    yield end
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_message_is_sent_before_beat_ends(ends, monkeypatch, tmp_path, signum):
    done = []

    def send(scheduler, entry, producer=None):
        signal.raise_signal(signum)
        done.append((entry, producer))

    monkeypatch.setattr(PersistentScheduler, "apply_entry", send)
    filename = str(tmp_path / "schedule")
    entry = ScheduleEntry("a job", app=app)
    scheduler = Scheduler(app=app, schedule_filename=filename, lazy=True)

    with pytest.raises(SystemExit) as ended:
        scheduler.apply_entry(entry, producer="producer")

    assert done == [(entry, "producer")]
    assert ended.value.code == signum
    assert signal.getsignal(signum) is ends


def test_many_signals_end_it_once(ends):
    with pytest.raises(SystemExit), defer_signals():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)

    assert signal.getsignal(signal.SIGTERM) is ends


def test_without_a_signal_nothing_happens(ends):
    with defer_signals():
        pass

    assert signal.getsignal(signal.SIGTERM) is ends


def test_what_goes_wrong_meanwhile_is_told_with_it(ends):
    with pytest.raises(SystemExit) as ended, defer_signals():
        signal.raise_signal(signal.SIGTERM)
        raise ConnectionError

    assert isinstance(ended.value.__context__, ConnectionError)


def test_in_another_thread_there_are_no_signals_to_hold(ends):
    seen = []

    def work():
        with defer_signals():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert seen == [ends]


def test_it_is_the_scheduler_that_beat_takes():
    assert app.conf.beat_scheduler == "caravel.beat:Scheduler"
