"""Messages of sweeps: many at once, also while the broker is away."""

import json
import socket
import threading
from base64 import b64decode
from contextlib import closing

import pytest
import redis
from celery import Celery

from caravel import celery
from caravel.core.celery_task import BULK, CaravelTask

# Caravel's own transport for Redis is registered when `caravel.celery` is imported.
assert celery.app


def work(key: object) -> None:
    """Do nothing: these tests run no worker."""


@pytest.fixture
def app(settings):
    """Another app with one task, and a queue of its own."""
    app = Celery("other", task_cls=CaravelTask, set_as_current=False, fixups=[])
    app.conf.update(settings.CELERY, task_default_queue="many", task_queues=None)
    app.task(name="work", shared=False)(work)
    yield app
    app.close()


@pytest.fixture
def broker(settings):
    with redis.from_url(settings.REDIS_URL) as client:
        yield client
        client.delete(*client.scan_iter("many*"), "_kombu.binding.many")


def keys_in(broker: redis.Redis) -> list[object]:
    """Return the argument of each message, oldest first."""
    messages = [json.loads(text) for text in reversed(broker.lrange("many", 0, -1))]
    bodies = [json.loads(b64decode(message["body"])) for message in messages]
    return [args[0] for args, _, _ in bodies]


def test_each_key_gets_a_message_in_order(app, broker):
    keys = [f"key-{number}" for number in range(450)]

    app.tasks["work"].delay_many(iter(keys))

    assert keys_in(broker) == keys


def test_messages_are_sent_in_few_round_trips(app, broker, monkeypatch):
    sizes: list[int] = []
    execute, test = redis.client.Pipeline.execute, threading.current_thread()

    def count(pipeline: redis.client.Pipeline, raise_on_error: bool = True) -> object:
        # Threads of earlier tests may still use the broker.
        if threading.current_thread() is test:
            sizes.append(len(pipeline.command_stack))
        return execute(pipeline, raise_on_error)

    monkeypatch.setattr(redis.client.Pipeline, "execute", count)

    app.tasks["work"].delay_many(range(400))

    assert sizes == [200, 200]
    assert len(keys_in(broker)) == 400


def test_bulk_waits_for_messages_that_were_sent_after_it(app, broker):
    app.tasks["work"].delay_many(["bulk-1", "bulk-2"], priority=BULK)
    app.tasks["work"].delay("later")

    with app.connection_for_read() as connection:
        channel = connection.channel()
        messages = [channel.basic_get("many", no_ack=True) for _ in range(3)]

    bodies = [json.loads(message.body) for message in messages]
    assert [args[0] for args, _, _ in bodies] == ["later", "bulk-1", "bulk-2"]


def test_no_keys_need_no_broker(app):
    app.conf.broker_url = "redis://127.0.0.1:1/0"

    app.tasks["work"].delay_many([])


def test_broker_that_is_down_is_logged_and_raises_nothing(app, caplog):
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    app.conf.broker_url = f"redis://127.0.0.1:{port}/0"

    app.tasks["work"].delay_many(["a", "b"])

    assert "messages_not_sent" in caplog.text


def test_broker_that_dies_meanwhile_is_logged_and_raises_nothing(
    app, broker, caplog, monkeypatch
):
    app.tasks["work"].delay_many(["before"])

    def die(*args: object, **kwargs: object) -> None:
        raise redis.ConnectionError("The broker is gone.")

    with monkeypatch.context() as patch:
        patch.setattr(redis.client.Pipeline, "execute", die)
        app.tasks["work"].delay_many(["a", "b"])
    app.tasks["work"].delay_many(["after"])

    assert keys_in(broker) == ["before", "after"]
    assert "messages_not_sent" in caplog.text
