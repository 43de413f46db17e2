"""A web server on this machine."""

import contextlib
import http.server
import threading


class Site:
    """What the server answers.

    Attributes:
        pages: path -> bytes, or a function of the handler.
        requests: paths asked for so far.
        address: "http://127.0.0.1:PORT".
    """

    def __init__(self):
        self.pages, self.requests, self.address = {}, [], ""


def send(handler, content, *, status=200, kind="application/octet-stream", length=None):
    """Answer with some bytes, and a length that may be a lie."""
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    if length is not False:
        handler.send_header("Content-Length", str(len(content) if length is None else length))
    handler.end_headers()
    handler.wfile.write(content)


@contextlib.contextmanager
def serve():
    """Run a server while the block runs."""
    site = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            site.requests.append(self.path)
            page = site.pages.get(self.path)
            if page is None:
                send(self, b"absent", status=404)
            elif callable(page):
                page(self)
            else:
                send(self, page)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    site.address = f"http://127.0.0.1:{server.server_port}"
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
