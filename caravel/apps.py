from django.apps import AppConfig

# Celery's current application from the start of Django on: shared tasks belong to it.
from caravel import celery  # noqa: F401


class CaravelConfig(AppConfig):
    name = "caravel"
