"""Web pages of the sandbox: a dashboard for developers, and pages for customers."""
