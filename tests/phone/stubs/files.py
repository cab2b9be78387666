"""Serves the files of a folder with Range, badly if told so.

    files.py FOLDER CONTROL_FOLDER

CONTROL/port is written when it listens; CONTROL/requests gets "METHOD PATH RANGE STATUS" for each request. While
CONTROL/cut is there, its content is how many answers still break off after half of what is left; CONTROL/hang makes an
answer stop after half and wait (CONTROL/hung is written then); CONTROL/no-range ignores Range.
"""

import http.server
import os
import pathlib
import sys
import threading
import time

folder, control = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
lock = threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def note(self, status):
        with lock, open(control / "requests", "a", encoding="utf-8") as file:
            file.write(f"{self.command} {self.path} {self.headers.get('Range', '-')} {status}\n")

    def do_GET(self):
        path = folder / self.path.lstrip("/").split("?")[0]
        if not path.is_file():
            self.note(404)
            self.send_error(404)
            return
        data = path.read_bytes()
        size, first, status = len(data), 0, 200
        asked = self.headers.get("Range", "")
        if asked.startswith("bytes=") and not (control / "no-range").exists():
            first = int(asked[6:].split("-")[0])
            status = 206 if first < size else 416
        self.note(status)
        self.send_response(status)
        if status == 416:
            self.send_header("Content-Range", f"bytes */{size}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        rest = data[first:]
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{size - 1}/{size}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        if self.command == "HEAD":
            return
        half = rest[: len(rest) // 2]
        if (control / "hang").exists():
            self.wfile.write(half)
            self.wfile.flush()
            (control / "hung").write_text("yes")
            time.sleep(600)
        with lock:
            cuts = int((control / "cut").read_text()) if (control / "cut").exists() else 0
            if cuts:
                (control / "cut").write_text(str(cuts - 1))
        if cuts:
            self.wfile.write(half)
            self.wfile.flush()
            self.close_connection = True
            return
        self.wfile.write(rest)

    do_HEAD = do_GET


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
(control / "port.new").write_text(str(server.server_address[1]))
os.rename(control / "port.new", control / "port")
server.serve_forever()
