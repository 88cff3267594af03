"""The WSGI application that gunicorn serves."""

import os

from django.core.wsgi import get_wsgi_application

from caravel import development

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "caravel.settings")

development.start_embedded_servers()
application = get_wsgi_application()
