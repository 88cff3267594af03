"""Messages that only say that there is work."""

import threading

import pytest
from celery import current_app

from caravel.core import wake_up as module
from caravel.core.wake_up import WakeUp
from caravel.tests.support.waiting import LIMIT, wait_until

TASK = "caravel.tasks.mail_alert"


@pytest.fixture
def wake_up():
    return WakeUp(TASK)


@pytest.fixture
def sent(monkeypatch):
    """The threads that sent a message."""
    threads: list[threading.Thread] = []
    monkeypatch.setattr(
        current_app.tasks[TASK],
        "apply_async",
        lambda *args, **options: threads.append(threading.current_thread()),
    )
    return threads


def test_message_that_waits_stands_for_all_later_ones(wake_up, sent):
    wake_up.send()
    WakeUp(TASK).send()  # another process
    assert len(sent) == 1

    wake_up.received()
    wake_up.send()
    assert len(sent) == 2


def test_message_that_cannot_be_sent_does_not_count_as_waiting(
    wake_up, sent, monkeypatch
):
    def fail(*args, **options):
        raise ConnectionError("broker away")

    with monkeypatch.context() as patch:
        patch.setattr(current_app.tasks[TASK], "apply_async", fail)
        with pytest.raises(ConnectionError):
            wake_up.send()

    wake_up.send()

    assert len(sent) == 1


def test_requests_are_sent_by_a_thread_with_a_pause_between_two(
    wake_up, sent, monkeypatch
):
    pauses: list[float] = []
    is_over, paused = threading.Event(), threading.Event()

    def pause(seconds):
        pauses.append(seconds)
        paused.set()
        is_over.wait(LIMIT)

    monkeypatch.setattr(module, "sleep", pause)

    wake_up.request()
    assert paused.wait(LIMIT)
    wake_up.received()
    for _ in range(100):
        wake_up.request()

    assert len(sent) == 1
    assert pauses == [module._INTERVAL]
    is_over.set()
    wait_until(lambda: len(sent) == 2)
    assert threading.current_thread() not in sent
    assert len(set(sent)) == 1


def test_broker_that_is_down_is_tried_again_until_it_is_back(
    wake_up, sent, monkeypatch, caplog
):
    failures = iter([ConnectionError("away"), ConnectionError("away")])
    record = current_app.tasks[TASK].apply_async

    def apply_async(*args, **options):
        for error in failures:
            raise error
        record(*args, **options)

    monkeypatch.setattr(current_app.tasks[TASK], "apply_async", apply_async)
    monkeypatch.setattr(module, "_PAUSE", 0)

    wake_up.request()

    wait_until(lambda: sent)
    assert caplog.text.count("wake_up_failed") == 2


def test_thread_that_has_ended_is_replaced(wake_up, sent):
    ended = threading.Thread(target=str)
    ended.start()
    ended.join()
    wake_up._thread = ended  # as after a fork

    wake_up.request()

    wait_until(lambda: sent)
