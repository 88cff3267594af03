from django.apps import AppConfig

from caravel.celery import app


class CaravelConfig(AppConfig):
    name = "caravel"
    # Imported with Django's apps: shared tasks belong to the current application.
    celery = app
