"""HTTP building blocks: request handling, JSON envelope, permissions, throttling."""
