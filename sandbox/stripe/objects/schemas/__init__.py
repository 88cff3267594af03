"""API representations and parameters of the object types."""
