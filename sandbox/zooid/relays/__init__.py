"""The relays that zooid serves: each on its host, all in one database."""
