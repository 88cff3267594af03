"""Payment methods, charges and their outcomes."""
