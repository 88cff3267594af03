"""The production files: what Compose and the Procfile run, and the broker's users."""

import re
import socket
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import redis
import yaml
from django.utils import timezone

from billing.tests.support import processes
from caravel.embedded.layout import valkey_binary
from caravel.tests.support.waiting import wait_until
from tenants.models import UsedAuthEvent

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
PASSWORD = "n0t-a-real-one"

#: What Caravel does with Redis, all of it.
USE_REDIS = """
from caravel.core import cache
from caravel.core.web.health import PROBES
from caravel.core.web.throttling import Throttled, throttle
from tenants.tasks import sweep_auth_events
sweep_auth_events.delay()
cache.set("a", [1], seconds=9)
print(cache.get("a"), cache.count("b", seconds=9), cache.add("c", 1, seconds=9))
cache.delete("a")
print(cache.get("a"), PROBES["broker"]())
throttle("1/minute", "d")
try:
    throttle("1/minute", "d")
except Throttled:
    print("throttled")
"""


@pytest.fixture
def broker(tmp_path) -> Iterator[str]:
    """URL, without a user, of a Valkey with the users of docker-compose.yml."""
    users = COMPOSE["configs"]["valkey-users"]["content"]
    (tmp_path / "users").write_text(
        re.sub(r"\$\{VALKEY_PASSWORD:.*?\}", PASSWORD, users)
    )
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    arguments = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path)]
    process = subprocess.Popen(
        [valkey_binary(), *arguments, "--aclfile", str(tmp_path / "users")],
        stdout=subprocess.DEVNULL,
    )
    try:
        with redis.Redis(port=port) as client:
            wait_until(lambda: answers(client), "Valkey's start")
        yield f"127.0.0.1:{port}/0"
    finally:
        process.kill()
        process.wait()


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def test_broker_does_nothing_without_its_password(broker):
    with redis.from_url(f"redis://{broker}") as stranger:
        for command in (
            "KEYS *",
            "LPUSH default x",
            "INFO",
            "CONFIG GET *",
            "ACL LIST",
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                stranger.execute_command(*command.split())
    with (
        redis.from_url(f"redis://caravel:wrong@{broker}") as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.ping()


def test_password_of_broker_does_not_administrate_it(broker):
    with redis.from_url(f"redis://caravel:{PASSWORD}@{broker}") as client:
        assert client.ping()
        for command in ("CONFIG GET *", "ACL LIST", "FLUSHALL", "KEYS *", "SHUTDOWN"):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*command.split())


@pytest.mark.processes
@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_caravel_works_with_the_users_of_the_broker(broker, settings, tmp_path):
    hour_ago = timezone.now() - timedelta(hours=1)
    UsedAuthEvent.objects.create(event_id="ab" * 32, expires_at=hour_ago)
    settings.REDIS_URL = f"redis://caravel:{PASSWORD}@{broker}"

    output, _ = processes.run(USE_REDIS).communicate(timeout=60)
    with processes.worker(tmp_path / "worker.log", queues="default"):
        wait_until(lambda: not UsedAuthEvent.objects.exists(), "the task")

    assert output.splitlines() == ["[1] 1 True", "None True", "throttled"]


def test_workers_and_beat_of_both_files_do_the_same():
    lines = (ROOT / "Procfile").read_text().splitlines()
    procfile = [line.split(": ", 1)[1] for line in lines if "celery" in line]
    services = [service.get("command", []) for service in COMPOSE["services"].values()]
    compose = [" ".join(command) for command in services if "celery" in command]

    started = [re.sub(r"env \S+ | --hostname \S+", "", command) for command in procfile]
    assert sorted(started) == sorted(compose)
    assert all("--without-mingle" in line for line in started if " worker" in line)
