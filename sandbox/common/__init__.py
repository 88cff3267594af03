"""Parts that all stand-ins share; imports nothing of the product."""
