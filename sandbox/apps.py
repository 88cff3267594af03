import os
from pathlib import Path

from django.apps import AppConfig
from django.conf import settings

from caravel import dev_defaults


class SandboxConfig(AppConfig):
    name = "sandbox"

    def ready(self) -> None:
        """Follow the sandbox's clock, in development and where there is one."""
        if not settings.DEBUG:
            return
        # Production has no time machine installed.
        from sandbox import clock

        told = os.environ.get(clock.VARIABLE)
        path = told or dev_defaults.defaults(settings.VAR).get(clock.VARIABLE)
        if path:
            clock.follow(Path(path))
