"""A server that does nothing: what this machine can do at the moment.

Prints its address, and answers each GET with the same kilobyte.
"""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BODY = b"x" * 1_024


class Handler(BaseHTTPRequestHandler):
    """Answers over keep-alive connections."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # one packet for headers and body

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"bare server on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
