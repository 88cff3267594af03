"""A large installation's rows, made by PostgreSQL itself, in realistic shares."""
