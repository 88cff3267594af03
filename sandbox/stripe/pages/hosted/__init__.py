"""Pages for customers: the hosted invoice and the portal."""
