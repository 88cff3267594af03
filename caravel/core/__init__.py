"""Code that every app uses and that knows no domain: errors, caching, HTTP, admin."""
