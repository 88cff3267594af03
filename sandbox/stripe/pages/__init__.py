"""Web pages of the sandbox: a dashboard for developers, and pages for customers."""

from sandbox.stripe.pages.routes import handle, serves

__all__ = ["handle", "serves"]
