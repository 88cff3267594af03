import os
from pathlib import Path

from django.apps import AppConfig
from django.conf import settings

from caravel import dev_defaults


class SandboxConfig(AppConfig):
    name = "sandbox"

    def ready(self) -> None:
        """Follow the sandbox's clock in development, if one is configured."""
        if not settings.DEBUG:
            return
        # Imported here: production does not install time_machine.
        from sandbox import clock

        path = os.environ.get(clock.VARIABLE)
        path = path or dev_defaults.defaults(settings.VAR).get(clock.VARIABLE)
        if path:
            clock.follow(Path(path))
