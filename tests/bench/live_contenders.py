"""Phones and contenders of `live` as processes: the simulated phones, the gateway, and HAProxy tuned for such phones."""

import json
import re
import subprocess

from contenders import Contender, fetch, free_port, start, wait_for
from live_fleet import GAIN_OF_TWO, LONGEST_ANSWER, MODEL

CONTEXT = 16384  # tokens a slot: a conversation's last turn fits
STICKY = "haproxy sticky"
REFERENCE = "haproxy leastconn"
REST_SLOW_S = 120

# Name, and what tells it from the others: for ours the policy, and whether it is told the weights.
OURS = {
    "adaptive": ("adaptive", False),
    "weighted_round_robin": ("weighted_round_robin", True),
    "least_loaded": ("least_loaded", True),
}
# For HAProxy: the balance, and the lines beside it. With `stick` a conversation stays where it began; the header is
# one that our gateway does not look at.
HAPROXY = {
    "haproxy roundrobin": ("roundrobin", ""),
    REFERENCE: ("leastconn", ""),
    STICKY: ("leastconn", "  stick-table type string len 16 size 100k expire 1h\n"
                          "  stick on req.hdr(X-Conversation)"),
}

# As a careful operator would: no more on a phone than it runs at once, so that the rest waits in the backend's queue for
# whoever comes free first; long timeouts; health checks; a request whose phone is gone goes to another one (the buffer
# holds the longest request, or it could not be sent again); tokens are not held back.
HAPROXY_CONFIGURATION = """\
global
  nbthread 1
  maxconn 10000
  tune.bufsize 131072
defaults
  mode http
  option http-keep-alive
  option http-no-delay
  option redispatch 1
  retries 3
  retry-on conn-failure empty-response 503
  timeout connect 2s
  timeout queue 600s
  timeout client 900s
  timeout server 900s
frontend clients
  bind 127.0.0.1:{port}
  default_backend phones
backend phones
  balance {balance}
{more}
  option httpchk GET /health
  default-server check inter 2s fall 3 rise 2
{servers}
"""


class SimulatedPhone:
    """A process of its own."""

    def __init__(self, stack, log, program, phone, compress):
        self.phone = phone
        command = [program, "sim", "--count", "1", "--base-port", "0", "--engine", "llama-server", "--model", MODEL,
                   "--decode-rate", f"{phone.decode * compress:.3f}", "--prefill-rate",
                   f"{phone.prefill * compress:.3f}", "--slots", str(phone.permits), "--gain-of-more",
                   str(GAIN_OF_TWO), "--answer-tokens", str(2 * LONGEST_ANSWER), "--context", str(CONTEXT)]
        self.child = start(stack, command, log, stdout=subprocess.PIPE)
        stack.callback(self.child.stdout.close)

    def find_port(self):
        line = self.child.stdout.readline().decode()
        found = re.search(r":(\d+)$", line.strip())
        if not found:
            raise RuntimeError(f"{self.phone.name} did not start: {line!r}")
        self.port = int(found[1])

    def state(self):
        return json.loads(fetch(self.port, "/sim/state")[2])

    def grow_slow(self):
        """As it is an hour later."""
        if self.phone.later < 1:
            fault = json.dumps({"kind": "slow", "factor": self.phone.later})
            status, _, body = fetch(self.port, "/sim/fault", fault)
            if status != 200:
                raise RuntimeError(f"{self.phone.name} does not become slow: {body!r}")


def start_phones(stack, log, program, fleet, compress):
    phones = [SimulatedPhone(stack, log, program, phone, compress) for phone in fleet]
    for phone in phones:
        phone.find_port()
    return phones


def start_haproxy(name, program, stack, folder, log, phones):
    balance, more = HAPROXY[name]
    port = free_port()
    servers = "\n".join(f"  server {p.phone.name} 127.0.0.1:{p.port} weight {p.phone.weight} maxconn {p.phone.permits}"
                        for p in phones)
    file = f"{folder}/{name.replace(' ', '-')}.cfg"
    with open(file, "w", encoding="ascii") as out:
        out.write(HAPROXY_CONFIGURATION.format(port=port, balance=balance, more=more, servers=servers))
    child = start(stack, [program, "-db", "-q", "-f", file], log, stdout=log)
    wait_for(child, name, lambda: fetch(port, "/health")[0] == 200)
    return Contender(name, port, child.pid)


def start_gateway(name, program, stack, folder, log, phones, compress):
    policy, weighted = OURS[name]
    port = free_port()
    entries = [{"name": p.phone.name, "host": "127.0.0.1", "port": p.port, "engine": "llama-server", "model": MODEL,
                "max_concurrency": p.phone.permits, "weight": p.phone.weight if weighted else 1} for p in phones]
    # Waiting is what is compared, so nobody is sent away. The one time of the phones' that can be set is compressed.
    gateway = {"policy": policy, "queue": 100000, "queue_wait_s": 600, "connections": 10000, "cache": "never",
               "rest_slow_s": max(1, round(REST_SLOW_S / compress)), "log_level": "warning"}
    file = f"{folder}/{name}.json"
    with open(file, "w", encoding="ascii") as out:
        json.dump({"gateway": gateway, "phones": entries}, out)
    child = start(stack, [program, "serve", "--phones", file, "--listen", f"127.0.0.1:{port}"], log, stdout=log)

    def ready():
        status, _, body = fetch(port, "/health")
        return status == 200 and all(phone["healthy"] for phone in json.loads(body)["phones"])

    wait_for(child, name, ready)
    return Contender(name, port, child.pid)
