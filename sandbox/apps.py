import os

from django.apps import AppConfig


class SandboxConfig(AppConfig):
    name = "sandbox"

    def ready(self) -> None:
        """In the demo time moves ahead; nobody else is told of a clock."""
        if os.environ.get("SANDBOX_CLOCK"):
            # Part of development: production has no time machine installed.
            from sandbox import clock

            clock.follow_if_told()
