"""An HTTP server, in the explicit style: its user starts it, and its user closes it.

This is where a drop should *not* be the way to stop: a port that closes since a
variable went out of scope would surprise everybody. So `start=False` leaves the
start to the user, and `warn_unclosed=True` reports a drop without `close()`,
which still ends the server. Run it: `python examples/http_server.py`.
"""

from __future__ import annotations

import selectors
import socket
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import letgo


class Hello(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello\n")

    def log_message(self, *arguments: object) -> None:
        pass


class _Site:
    """What the worker needs: the listening socket, and a pair to be woken by."""

    def __init__(self, host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self.httpd = HTTPServer((host, port), handler)
        self.httpd.socket.settimeout(1.0)  # a client that hangs up before accept()
        self._ear, self._mouth = socket.socketpair()
        self._mouth.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self.httpd, selectors.EVENT_READ)
        self._selector.register(self._ear, selectors.EVENT_READ)

    def serve(self) -> None:
        """Wait for a request or for `interrupt`, and answer the request."""
        for key, _ in self._selector.select():
            if key.fileobj is self.httpd:
                self.httpd.handle_request()

    # Not HTTPServer.serve_forever and shutdown: shutdown() waits, and `interrupt`
    # must not, since it may run inside the collector.
    def interrupt(self) -> None:
        try:
            self._mouth.send(b"!")
        except OSError:
            pass  # closed meanwhile: serve() has returned

    def close(self) -> None:
        self._selector.close()
        self.httpd.server_close()
        self._ear.close()
        self._mouth.close()

    def leave_to_parent(self) -> object:
        """In a forked child: one process answers, the parent."""
        self.close()
        return letgo.STOP


class Server(letgo.Handle):
    __slots__ = ("address",)

    def __init__(
        self, handler: type[BaseHTTPRequestHandler], host: str = "127.0.0.1", port: int = 0
    ) -> None:
        site = _Site(host, port, handler)
        self.address = site.httpd.server_address[:2]
        super().__init__(
            site.serve,
            interval=0,
            interrupt=site.interrupt,
            on_close=site.close,
            after_fork=site.leave_to_parent,
            name="http-server",
            start=False,
            warn_unclosed=True,
        )


def main() -> None:
    server = Server(Hello)
    print("started:", server.alive)
    with server:  # starts it; leaving the block closes it
        print("started:", server.alive)
        url = "http://{}:{}/".format(*server.address)
        with urllib.request.urlopen(url, timeout=10) as response:
            print("answer:", response.read().decode().strip())
        # A real one would wait here for its end: server.join()
    print("closed:", server.closed)


if __name__ == "__main__":
    main()
