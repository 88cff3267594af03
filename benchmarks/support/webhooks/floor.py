"""The floor: the least that Django can do with a webhook before it answers.

The signature is verified by stripe-python, the JSON parsed, one row inserted by
Django's cursor. There is no middleware, no check of what the event contains, and nobody
processes it.
"""

import json
import os

import django
import stripe
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.urls import path

PATH = "webhook"
TABLE = """
    CREATE TABLE event (
        id text PRIMARY KEY, type text NOT NULL, body text NOT NULL,
        received_at timestamptz NOT NULL DEFAULT now()
    )
"""
_INSERT = """
    INSERT INTO event (id, type, body) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING
"""
_SECRET = os.environ["STRIPE_WEBHOOK_SECRET"]


def webhook(request: HttpRequest) -> HttpResponse:
    """Verify, parse, insert, answer."""
    body = request.body.decode()
    signature = request.headers["Stripe-Signature"]
    stripe.WebhookSignature.verify_header(body, signature, _SECRET, 300)
    event = json.loads(body)
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, [event["id"], event["type"], body])
    # Without a length, the server closes the connection.
    return HttpResponse(headers={"Content-Length": "0"})


urlpatterns = [path(PATH, webhook)]

settings.configure(
    SECRET_KEY="x" * 50,
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    LOGGING_CONFIG=None,
    USE_TZ=True,
    MAX_BODY=1024 * 1024,
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
application = WSGIHandler()
