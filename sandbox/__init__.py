"""Stand-ins for the services Caravel talks to, on real sockets."""
