"""The WSGI application that gunicorn serves."""

import os

import django

from caravel import development
from caravel.handler import Utf8Handler

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "caravel.settings")

development.start_embedded_servers()
django.setup(set_prefix=False)
application = Utf8Handler()
