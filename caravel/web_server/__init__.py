"""The web server: waitress in the worker processes of gunicorn (ADR 30).

A request gets a thread when it has arrived whole; until then it costs a few kilobytes.
Clients that take too long are disconnected, and if there are too many connections,
those that have waited longest.

    gunicorn caravel.wsgi --worker-class caravel.web_server.Worker

Of gunicorn's options those that concern connections and requests have no effect, except
`--bind`, `--backlog` and `--threads`.
"""

from caravel.web_server.worker import Worker

__all__ = ["Worker"]
