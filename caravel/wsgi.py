"""WSGI application for gunicorn."""

import gc
import os

import django
from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections

from caravel import dev_defaults
from caravel.core.web import startup
from caravel.core.web.handler import Utf8Handler

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "caravel.settings")


def check_webhook_secret() -> None:
    """Refuse to start without it: each of Stripe's webhooks would be refused."""
    # Not a required setting: the command that creates it has to start before.
    if not settings.STRIPE_WEBHOOK_SECRETS:
        raise ImproperlyConfigured(
            "STRIPE_WEBHOOK_SECRET is missing or blank. It is printed by "
            f"manage.py stripe_setup --webhook-url {settings.APP_URL}/stripe/webhook"
        )


def check_database() -> None:
    """Refuse to start where `migrate` would, such as with another Stripe account."""
    try:
        found = checks.run_checks(tags=[checks.Tags.database], databases=["default"])
    except DatabaseError:
        # `/readyz` reports a database that is down.
        return
    finally:
        connections.close_all()
    if errors := [each.msg for each in found if each.is_serious()]:
        raise ImproperlyConfigured("\n".join(errors))


dev_defaults.start_embedded_servers()
django.setup(set_prefix=False)
check_webhook_secret()
check_database()
startup.prepare()
application = Utf8Handler()
# With --preload all processes share the memory of what is loaded by now, unless the
# garbage collector writes to it.
gc.freeze()
