"""The Django project: settings, URLs, Celery, logging and code that every app uses."""
