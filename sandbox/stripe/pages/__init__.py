"""The sandbox's own web pages: what a developer, or a customer, looks at."""

from sandbox.stripe.pages.routes import handle, serves

__all__ = ["handle", "serves"]
