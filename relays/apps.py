from importlib import import_module

from django.apps import AppConfig


class RelaysConfig(AppConfig):
    name = "relays"

    def ready(self) -> None:
        import_module("relays.signals")
