"""A small engine in the place of Ollama or llama-server: enough for pulling, probing and listing models.

    engine.py ollama|llama HOST PORT STATE_FOLDER

Ollama's models are the lines of STATE/ollama.models; a pull streams progress and adds one. STATE/pull.refuse makes it
fail, STATE/pull.hang makes it stop half-way (STATE/hung/pull is written then).
"""

import http.server
import json
import os
import pathlib
import sys
import time

kind, host, port, state = sys.argv[1], sys.argv[2], int(sys.argv[3]), pathlib.Path(sys.argv[4])
models_file = state / "ollama.models"


def models():
    return models_file.read_text().split() if models_file.exists() else []


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def write_down(self, body=b""):
        with open(state / "engine.requests", "a", encoding="utf-8") as file:
            file.write(f"{self.command} {self.path} {body.decode(errors='replace')}\n")

    def answer(self, value, status=200):
        text = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def do_GET(self):
        self.write_down()
        path = self.path.split("?")[0]
        if kind == "ollama":
            if path == "/":
                return self.answer("Ollama is running")
            if path == "/api/version":
                return self.answer({"version": "0.31.1"})
            if path in ("/api/tags", "/api/ps"):
                return self.answer({"models": [
                    {"name": m, "model": m, "modified_at": "2026-08-01T00:00:00Z", "size": 986061892,
                     "digest": "65ec06548149b04c096a120e4a6da9d4017ea809c91734ea5631e89f96ddc57b",
                     "details": {"format": "gguf", "family": "qwen2", "parameter_size": "1.5B",
                                 "quantization_level": "Q4_K_M"}} for m in models()]})
        else:
            name = (state / "llama.alias").read_text().strip() if (state / "llama.alias").exists() else ""
            if path == "/health":
                return self.answer({"status": "ok"})
            if path in ("/v1/models", "/models"):
                return self.answer({"object": "list", "models": [{"name": name, "model": name}],
                                    "data": [{"id": name, "object": "model", "created": 1700000000,
                                              "owned_by": "llamacpp", "meta": {"n_params": 1543714304}}]})
            if path == "/props":
                return self.answer({"model_path": name, "total_slots": 1, "build_info": "b11669-0123456"})
        return self.answer({"error": "not found"}, 404)

    do_HEAD = do_GET

    def do_DELETE(self):
        self.do_POST()

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.write_down(body)
        asked = json.loads(body or b"{}")
        name = asked.get("model") or asked.get("name") or ""
        if self.path == "/api/pull":
            if (state / "pull.refuse").exists():
                return self.answer({"error": "pull model manifest: file does not exist"}, 500)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-ndjson")
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            self.event({"status": "pulling manifest"})
            total = 986048768
            for part in (0, 1, 2, 3, 4):
                self.event({"status": "pulling 183715c43589", "digest": "sha256:183715c43589", "total": total,
                            "completed": total * part // 4})
                if part == 2 and (state / "pull.hang").exists():
                    (state / "hung").mkdir(exist_ok=True)
                    (state / "hung" / "pull").write_text(str(os.getpid()))
                    time.sleep(600)
            self.event({"status": "verifying sha256 digest"})
            self.event({"status": "writing manifest"})
            if name not in models():
                with open(models_file, "a", encoding="utf-8") as file:
                    file.write(name + "\n")
            return self.event({"status": "success"})
        if self.path == "/api/delete":
            models_file.write_text("".join(m + "\n" for m in models() if m != name))
            return self.answer({})
        if self.path == "/api/show":
            return self.answer({"details": {}} if name in models() else {"error": "model not found"},
                               200 if name in models() else 404)
        if self.path == "/api/create":
            with open(models_file, "a", encoding="utf-8") as file:
                file.write(name + "\n")
            return self.answer({"status": "success"})
        if self.path in ("/api/generate", "/api/chat"):
            return self.answer({"model": name, "response": "hello", "message": {"role": "assistant", "content": "hello"},
                                "done": True, "done_reason": "stop"})
        if self.path in ("/v1/chat/completions", "/completion"):
            return self.answer({"choices": [{"message": {"role": "assistant", "content": "hello"}}], "content": "hello"})
        return self.answer({"error": "not found"}, 404)

    def event(self, value):
        self.wfile.write(json.dumps(value).encode() + b"\n")
        self.wfile.flush()


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True


Server((host, port), Handler).serve_forever()
