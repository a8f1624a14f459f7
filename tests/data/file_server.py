"""A server of one file that misbehaves as it is told, request by request."""

import contextlib
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """Serves `content`; `plan` holds keyword arguments of `_serve` for the coming requests."""

    def __init__(self, content):
        self.content = content
        self.etag = '"first"'
        self.plan = []
        self.ranges = []  # the Range header of each request, or None
        self.sent = []  # the bytes of the body of each response
        self.open = True
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                server.ranges.append(self.headers.get("Range"))
                server.sent.append(0)
                with contextlib.suppress(ConnectionError):
                    server._serve(self, len(server.sent) - 1, **(server.plan.pop(0) if server.plan else {}))

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/folder/data.hdf5"

    def close(self):
        self.open = False
        self._server.shutdown()
        self._server.server_close()

    def _serve(
        self,
        handler,
        request,
        status=None,  # an answer without the file
        headers=(),
        body=b"",
        stop_after=None,  # bytes of this response
        stall=False,  # there, instead of cutting the connection
        slow=0.0,  # seconds before the body
        claim=None,  # Content-Length, whatever is sent
        know_ranges=True,
        chunked=False,
        wrong_range=False,
    ):
        start = 0
        wanted = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        same = handler.headers.get("If-Range") in (None, self.etag)
        if status is None:
            status, body = 200, self.content
            if wanted and know_ranges and same:
                start = int(wanted[1])
                status, body = 206, self.content[start:]
                headers = [
                    (
                        "Content-Range",
                        f"bytes {start + wrong_range}-{len(self.content) - 1}/{len(self.content)}",
                    )
                ]
                if start >= len(self.content):
                    status, body, headers = 416, b"", [("Content-Range", f"bytes */{len(self.content)}")]
            headers = [*headers, ("ETag", self.etag), ("Content-Type", "application/x-hdf5")]
        handler.send_response(status)
        for name, value in headers:
            handler.send_header(name, value)
        if chunked:
            handler.send_header("Transfer-Encoding", "chunked")
        else:
            handler.send_header("Content-Length", str(len(body) if claim is None else claim))
        handler.end_headers()
        time.sleep(slow)
        part = body[:stop_after]
        self.sent[request] = len(part)  # before the client can have it all and the test look
        if chunked:
            handler.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(part), part))
        else:
            handler.wfile.write(part)
        handler.wfile.flush()
        while stall and self.open:
            time.sleep(0.01)
        handler.close_connection = stop_after is not None or claim is not None
