"""A gateway that only writes down what it hears and answers as it is told.

    gateway.py FOLDER

FOLDER/port is written when it listens. Each request is one line of JSON in FOLDER/requests: time, method, path, headers,
body (parsed where it is JSON). FOLDER/answer, read anew for each request: a line with the status, then the body.
"""

import http.server
import json
import os
import pathlib
import sys
import threading
import time

folder = pathlib.Path(sys.argv[1])
lock = threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        length = int(self.headers.get("Content-Length", 0))
        raw = self.rfile.read(length)
        try:
            body = json.loads(raw, parse_constant=lambda name: f"not JSON: {name}") if raw else None
        except ValueError:
            body = None
        line = json.dumps({"time": time.time(), "method": self.command, "path": self.path,
                           "headers": {k.lower(): v for k, v in self.headers.items()},
                           "body": body, "raw": raw.decode(errors="replace")})
        with lock, open(folder / "requests", "a", encoding="utf-8") as file:
            file.write(line + "\n")
        status, _, text = (folder / "answer").read_text().partition("\n")
        answer = text.strip().encode()
        if self.path == "/health":
            status, answer = "200", b'{"phones":[]}'
        self.send_response(int(status))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    do_HEAD = do_POST = do_GET


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2]) if len(sys.argv) > 2 else 0), Handler)
server.daemon_threads = True
(folder / "port.new").write_text(str(server.server_address[1]))
os.rename(folder / "port.new", folder / "port")
server.serve_forever()
