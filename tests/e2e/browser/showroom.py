"""A fleet to look at: phones of both engines, warm and cool ones, one that is off, and work for them to do."""
import contextlib
import json
import threading

from client import ask_stream, request

TOKEN = "showroom-token-0123456789"
MODELS = {"ollama": "qwen2.5:1.5b", "llama-server": "gemma-3-1b"}

# name, engine, tokens per second, permits, and what it says of itself: temperature, battery, charging
PHONES = [
    ("pixel-8-pro", "llama-server", 14, 2, (36.4, 92, True)),
    ("pixel-8", "ollama", 11, 2, (34.1, 81, True)),
    ("pixel-6a", "ollama", 8, 1, (38.9, 64, True)),
    ("galaxy-s10", "llama-server", 6, 1, (43.6, 77, True)),  # too hot: rests
    ("galaxy-s21", "ollama", 9, 2, (35.2, 58, False)),
    ("oneplus-9", "llama-server", 10, 2, (37.0, 88, True)),
    ("redmi-note-12", "ollama", 5, 1, (33.3, 12, False)),    # its battery is low: spared
    ("moto-g84", "llama-server", 7, 1, None),
    ("xperia-5", "ollama", 8, 1, (31.8, 100, True)),
    ("fairphone-5", "ollama", 7, 1, None),                   # switched off by whoever wants
]


class Showroom:
    def __init__(self, start, folder, settings=None):
        token = folder / "token"
        token.write_text(TOKEN + "\n")
        token.chmod(0o600)
        self.sims, entries = {}, []
        for number, (name, engine, speed, permits, _) in enumerate(PHONES):
            phone, = start.sim(1, engine, decode_rate=speed, prefill_rate=120, slots=permits, answer_tokens=60,
                               model=MODELS[engine])
            self.sims[name] = start.processes[-1]
            entries.append(phone.entry(name=name, id=f"pf-{number}", max_concurrency=permits, weight=1 + number % 3))
        self.gateway = start.gateway(entries, {"registration": "known", "fleet_token_file": str(token),
                                               "phone_networks": ["127.0.0.0/8"], "slow_start_s": 0, **(settings or {})})
        self.beat()
        self._ended = threading.Event()
        self._askers = []

    def beat(self):
        """Each phone says how it is."""
        for number, (name, _, _, _, reads) in enumerate(PHONES):
            if reads is None:
                continue
            body = {"id": f"pf-{number}", "interval_s": 600,
                    "battery": {"temperature_c": reads[0], "level": reads[1], "charging": reads[2]},
                    "memory": {"total_kb": 7900000, "available_kb": 2500000 + 90000 * number},
                    "wifi": {"rssi_dbm": -50 - number}}
            reply = request(self.gateway.port, "POST", "/fleet/heartbeat", json.dumps(body),
                            {"Authorization": f"Bearer {TOKEN}"})
            assert reply.status == 200, reply

    def busy(self, clients):
        """So many clients ask one question after the other until rest()."""
        def asker(number):
            done = 0
            while not self._ended.is_set():
                # Every fourth question was asked before.
                prompt = "count" if done % 4 == 3 else f"count for {number}, {done}"
                with contextlib.suppress(AssertionError, OSError):
                    stream = ask_stream(self.gateway.port, prompt, 20 + 7 * ((number + done) % 6))
                    for _ in stream:
                        if self._ended.is_set():
                            stream.abort()
                            return
                done += 1
        for number in range(clients):
            self._askers.append(threading.Thread(target=asker, args=(number,), daemon=True))
            self._askers[-1].start()

    def rest(self):
        self._ended.set()
        for asker in self._askers:
            asker.join(20)
