"""The Django project: settings, URLs, Celery, logging and code that every app uses."""

from caravel.celery import app as celery_app

__all__ = ["celery_app"]
