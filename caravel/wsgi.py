"""WSGI application for gunicorn."""

import os

import django

from caravel import dev_defaults
from caravel.core.web.handler import Utf8Handler

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "caravel.settings")

dev_defaults.start_embedded_servers()
django.setup(set_prefix=False)
application = Utf8Handler()
