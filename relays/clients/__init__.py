"""Client of zooid, the server that hosts the relays."""
