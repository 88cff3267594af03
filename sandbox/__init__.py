"""Stand-ins on real sockets for the services Caravel talks to."""
