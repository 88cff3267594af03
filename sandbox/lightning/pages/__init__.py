"""The sandbox's page: what a developer looks at, and presses."""

from sandbox.lightning.pages.routes import handle

__all__ = ["handle"]
