"""State changes of relays, and their member lists."""
