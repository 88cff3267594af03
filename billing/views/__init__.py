"""Payment page and webhook endpoint: HTTP only, every decision is in the services."""
