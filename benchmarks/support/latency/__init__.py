"""Times between an action and its effect, on a running system."""
