"""Attacks on workers through the broker: all that is lost is messages.

Celery's own behaviour is in its source: `celery/worker/consumer/control.py` for remote
control, `_brpop_read` of `kombu/transport/redis.py` for messages.
"""

import json
from base64 import b64encode
from datetime import timedelta

import pytest
import redis
from django.utils import timezone
from kombu import Connection

from billing.tests.support import processes
from caravel.celery import app
from caravel.tests.support.processes import runs
from caravel.tests.support.waiting import wait_until
from tenants.models import UsedAuthEvent
from tenants.tasks import look_up_names, sweep_auth_events

POOLS = {
    "prefork": ("--concurrency", "2"),
    "threads": ("--pool", "threads", "--concurrency", "2"),
}
#: Texts that are no messages at all.
TEXTS = [
    *(b"not JSON", b" ", b"\xff\xfe", b"5", b"null", b"[]", b'"text"', b"{}"),
    *(b"[" * 100_000, b'{"properties":' * 50_000, b"1" * 5_000, b"NaN"),
]
#: Keys of a member, and values that it does not have in a message of ours.
ODD: list[tuple[tuple[str, ...], list[object]]] = [
    (("properties",), [5, [], "text", None, {}]),
    (("properties", "delivery_tag"), [[], {}, 5, None]),
    (("properties", "delivery_info"), [None, {}, [], "text", {"exchange": 5}]),
    (("properties", "delivery_info", "exchange"), [5, [], None]),
    (("properties", "body_encoding"), ["rot13", [], 5]),
    (("headers",), [None, [], "text", 5, {}]),
    (("headers", "task"), [[], {}, 5, None, "nobody.knows"]),
    (("headers", "id"), [[], {}, 5, None]),
    (("headers", "eta"), ["tomorrow", 5, [], "0001-01-01T00:00:00+14:00"]),
    (("headers", "expires"), ["tomorrow", 5, [], {}]),
    (("headers", "timelimit"), ["text", 5, [1], {}, ["a", "b"]]),
    (("headers", "retries"), ["text", [], {}]),
    (("headers", "compression"), ["zlib", "nothing", []]),
    (("content-type",), ["application/x-python-serialize", 5, [], "text/plain"]),
    (("content-encoding",), ["rot13", 5, [], "zlib"]),
    (("body",), [5, [], "%%%", {}, ""]),
]
#: Texts in the place of a task's arguments.
BODIES = ["not JSON", "5", "null", "[]", "[[], {}]", "[5, 5, 5]", "[" * 100_000]


def malformed(good: bytes) -> list[bytes]:
    """Return the texts, and copies of a good message with one odd value each."""
    changed = [changed_copy(good, keys, value) for keys, odd in ODD for value in odd]
    bodies = [b64encode(body.encode()).decode() for body in BODIES]
    return [*TEXTS, *changed, *(changed_copy(good, ("body",), body) for body in bodies)]


def changed_copy(good: bytes, keys: tuple[str, ...], value: object) -> bytes:
    message = json.loads(good)
    *outer, last = keys
    member = message
    for key in outer:
        member = member[key]
    member[last] = value
    return json.dumps(message).encode()


@pytest.fixture
def broker(settings):
    with redis.from_url(settings.REDIS_URL) as client:
        client.flushall()
        yield client
        client.flushall()


@pytest.mark.processes
@pytest.mark.django_db(transaction=True, serialized_rollback=True)
@pytest.mark.parametrize("pool", POOLS)
def test_worker_survives_messages_that_it_cannot_read(broker, tmp_path, pool):
    look_up_names.delay()
    other = broker.rpop("default")
    hour_ago = timezone.now() - timedelta(hours=1)
    UsedAuthEvent.objects.create(event_id="ab" * 32, expires_at=hour_ago)

    # More of each kind than the worker has slots: none may keep one.
    for message in malformed(other):
        broker.lpush("default", message, message, message)
    sweep_auth_events.delay()
    # The worker delivers again what nobody has acknowledged for long, at its start.
    for tag, text in enumerate(["not JSON", "5", '["a", "b"]']):
        broker.hset("unacked", str(tag), text)
        broker.zadd("unacked_index", {str(tag): 1.0})
    with processes.worker(
        tmp_path / "worker.log", queues="default", pool=POOLS[pool]
    ) as worker:
        wait_until(
            lambda: not UsedAuthEvent.objects.exists() or not runs(worker.pid),
            "the good task",
        )
        wait_until(lambda: not broker.hlen("unacked"), "the end of all messages")

        assert runs(worker.pid)
        assert not UsedAuthEvent.objects.exists()
        # Remote control would listen to a channel.
        assert broker.pubsub_channels() == []


def test_configuration_of_celery_contains_none_of_our_secrets(settings):
    shown = app.conf.humanize(with_defaults=True, censored=False)

    secrets = [
        *(settings.SECRET_KEY, settings.STRIPE_SECRET_KEY, settings.ROBOT_SECRET),
        *(*settings.ROBOT_WALLETS, *settings.ENCRYPTION_KEYS),
        *settings.STRIPE_WEBHOOK_SECRETS,
    ]
    assert [secret for secret in secrets if secret in shown] == []
    assert settings.DATABASE_URL not in shown


@pytest.mark.parametrize("url", ["redis://h", "rediss://h", "redis+socket:///s"])
def test_every_url_of_redis_uses_our_transport(url):
    transport = Connection(url, ssl={"ssl_cert_reqs": "required"}).get_transport_cls()

    assert transport.__module__ == "caravel.core.broker"
