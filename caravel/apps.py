from importlib import import_module

from django.apps import AppConfig

from caravel.celery import app


class CaravelConfig(AppConfig):
    name = "caravel"
    # Imported with Django's apps: shared tasks belong to the current application.
    celery = app

    def ready(self) -> None:
        # Web processes and commands alert support, too, by the name of the task.
        import_module("caravel.tasks")
