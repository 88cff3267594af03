from importlib import import_module

from django.apps import AppConfig


class LightningConfig(AppConfig):
    name = "lightning"

    def ready(self) -> None:
        import_module("lightning.checks")
        import_module("lightning.signals")
