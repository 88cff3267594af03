from importlib import import_module

from django.apps import AppConfig


class RelaysConfig(AppConfig):
    name = "relays"

    def ready(self) -> None:
        import_module("relays.checks")
        import_module("relays.signals")
        # Rows enqueue tasks by name, in processes that run none, too.
        import_module("relays.tasks")
