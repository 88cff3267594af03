"""dj-stripe's webhook view, in an environment of its own.

It verifies the signature and records the delivery. Its callback leaves the processing
to others, as its documentation proposes, and does nothing; no other
middleware than one that keeps the connections.
"""

import os
from collections.abc import Callable
from typing import Any

import django
from django.apps import apps
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse
from django.urls import include, path

PREFIX = "stripe/"


def leave_to_others(trigger: object, api_key: str) -> None:
    """Do nothing."""


def content_length(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware that keeps the connection: without a length, the server closes it."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response["Content-Length"] = str(len(response.content))
        return response

    return middleware


def prepare() -> None:
    """Create the tables and the endpoint, and print its path."""
    call_command("migrate", run_syncdb=True, verbosity=0)
    model = apps.get_app_config("djstripe").get_model("WebhookEndpoint")
    endpoint: Any = model._default_manager.create(
        id="we_1",
        livemode=False,
        url="https://caravel.example",
        secret=os.environ["STRIPE_WEBHOOK_SECRET"],
        enabled_events=["*"],
        status="enabled",
        api_version="",
    )
    print(f"{PREFIX}webhook/{endpoint.djstripe_uuid}/")


settings.configure(
    SECRET_KEY="x" * 50,
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    LOGGING_CONFIG=None,
    MIDDLEWARE=[f"{__name__}.content_length"],
    USE_TZ=True,
    MAX_BODY=1024 * 1024,
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "djstripe",
    ],
    # Its migrations take a minute.
    MIGRATION_MODULES=dict.fromkeys(("auth", "contenttypes", "djstripe")),
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    DJSTRIPE_FOREIGN_KEY_TO_FIELD="id",
    DJSTRIPE_WEBHOOK_EVENT_CALLBACK=leave_to_others,
    STRIPE_TEST_SECRET_KEY="sk_test_benchmark",
    STRIPE_LIVE_MODE=False,
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": os.environ["COMPARED_HOST"],
            "USER": os.environ["COMPARED_USER"],
            "NAME": os.environ["COMPARED_NAME"],
            "CONN_MAX_AGE": None,
        }
    },
)
django.setup()
# Only now: it imports models.
urlpatterns = [path(PREFIX, include("djstripe.urls", namespace="djstripe"))]
application = WSGIHandler()
