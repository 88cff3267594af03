"""The sandbox's page for developers: its state, and forms that change it."""

from sandbox.lightning.pages.routes import handle

__all__ = ["handle"]
