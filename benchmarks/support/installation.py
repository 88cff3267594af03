"""An installation of Caravel on its own PostgreSQL and Valkey, without processes."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import django

from caravel import embedded

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def installed(
    var: Path, environment: Mapping[str, str], *, durable: bool = False
) -> Iterator[None]:
    """Start the servers, migrate, and configure Django in this process.

    `durable`: PostgreSQL waits for the disk, as in production.
    """
    with embedded.servers(var, durable=durable) as servers:
        os.environ.update(
            environment,
            CARAVEL_ENV="test",
            CARAVEL_VAR=str(var),
            DATABASE_URL=servers.database_url,
            DEBUG="false",
            DJANGO_SETTINGS_MODULE="caravel.settings",
            LOG_LEVEL="INFO",
            REDIS_URL=servers.redis_url,
        )
        migrate = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
        subprocess.run(migrate, cwd=ROOT, check=True)
        django.setup()
        yield
