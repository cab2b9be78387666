"""Phones and contenders of `live` as processes: simulated phones, the gateway, and HAProxy tuned for such phones."""

import json
import re
import subprocess

from contenders import Contender, fetch, free_port, start, wait_for
from live_fleet import GAIN_OF_TWO, KILLED_FOR_S, LONGEST_ANSWER, MODEL

CONTEXT = 16384  # tokens a slot: a conversation's last turn fits
STICKY = "haproxy sticky"
REFERENCE = "haproxy leastconn"
FAST_ONLY = "haproxy fast phones"
SLOW_WEIGHT = 20  # whoever has less than this share (percent) of the fastest one's weight

# The gateway's times that have to do with phones, as far as they can be set: the defaults, divided as all times are.
TIMES_S = {"probe_interval_s": 5, "breaker_open_s": 30, "breaker_max_open_s": 300, "slow_start_s": 30,
           "rest_slow_s": 120}
CHECK_S = 2  # HAProxy's between two health checks

# Name, and what tells it from the others: for ours the policy, and whether it is told the weights.
OURS = {
    "adaptive": ("adaptive", False),
    "weighted_round_robin": ("weighted_round_robin", True),
    "least_loaded": ("least_loaded", True),
}
# For HAProxy: the balance, and the lines beside it. With `stick` a conversation stays where it began; the header is
# one that our gateway does not look at. FAST_ONLY: the slowest phones are backups, asked when all others are down.
HAPROXY = {
    "haproxy roundrobin": ("roundrobin", ""),
    REFERENCE: ("leastconn", ""),
    FAST_ONLY: ("leastconn", ""),
    STICKY: ("leastconn", "  stick-table type string len 16 size 100k expire 1h\n"
                          "  stick on req.hdr(X-Conversation)"),
}

# As a careful operator would: no more on a phone than it runs at once, so that the rest waits in the backend's queue
# for whoever comes free first; long timeouts; health checks, and a phone that cannot be reached is out until they say
# otherwise (or with nothing on it, it would look the least busy of all); a request whose phone is gone goes to another
# one (the buffer holds the longest request, or it could not be sent again); tokens are not held back.
HAPROXY_CONFIGURATION = """\
global
  nbthread 1
  maxconn 4000
  tune.bufsize 131072
defaults
  mode http
  option http-keep-alive
  option http-no-delay
  option redispatch 1
  retries 5
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
  default-server check inter {check_ms}ms fall 3 rise 2 observe layer4 error-limit 1 on-error mark-down
{servers}
"""


class SimulatedPhone:
    """A process of its own."""

    def __init__(self, stack, log, program, phone, compress):
        self.phone = phone
        self.compress = compress
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
            self.fail({"kind": "slow", "factor": self.phone.later})

    def be_killed(self):
        """It comes back by itself, with empty caches."""
        self.fail({"kind": "crash", "duration_ms": max(1, round(KILLED_FOR_S / self.compress * 1000))})

    def fail(self, how):
        status, _, body = fetch(self.port, "/sim/fault", json.dumps(how))
        if status != 200:
            raise RuntimeError(f"{self.phone.name} does not take {how}: {body!r}")


def start_phones(stack, log, program, fleet, compress):
    phones = [SimulatedPhone(stack, log, program, phone, compress) for phone in fleet]
    for phone in phones:
        phone.find_port()
    return phones


def start_haproxy(name, program, stack, folder, log, phones, compress):
    balance, more = HAPROXY[name]
    port = free_port()
    servers = "\n".join(f"  server {p.phone.name} 127.0.0.1:{p.port} weight {p.phone.weight} maxconn {p.phone.permits}" +
                        (" backup" if name == FAST_ONLY and p.phone.weight < SLOW_WEIGHT else "") for p in phones)
    file = f"{folder}/{name.replace(' ', '-')}.cfg"
    with open(file, "w", encoding="ascii") as out:
        out.write(HAPROXY_CONFIGURATION.format(port=port, balance=balance, more=more, servers=servers,
                                               check_ms=max(20, round(CHECK_S / compress * 1000))))
    child = start(stack, [program, "-db", "-q", "-f", file], log, stdout=log)
    wait_for(child, name, lambda: fetch(port, "/health")[0] == 200)
    return Contender(name, port, child.pid)


def start_gateway(name, program, stack, folder, log, phones, compress):
    policy, weighted = OURS[name]
    port = free_port()
    entries = [{"name": p.phone.name, "host": "127.0.0.1", "port": p.port, "engine": "llama-server", "model": MODEL,
                "max_concurrency": p.phone.permits, "weight": p.phone.weight if weighted else 1} for p in phones]
    # Waiting is what is compared, so nobody is sent away.
    gateway = {"policy": policy, "queue": 100000, "queue_wait_s": 600, "connections": 4000, "cache": "never",
               "log_level": "warning"}
    for key, seconds in TIMES_S.items():
        gateway[key] = max(0.1, seconds / compress) if key == "probe_interval_s" else max(1, round(seconds / compress))
    file = f"{folder}/{name}.json"
    with open(file, "w", encoding="ascii") as out:
        json.dump({"gateway": gateway, "phones": entries}, out)
    child = start(stack, [program, "serve", "--phones", file, "--listen", f"127.0.0.1:{port}"], log, stdout=log)

    def ready():
        status, _, body = fetch(port, "/health")
        return status == 200 and all(phone["healthy"] for phone in json.loads(body)["phones"])

    wait_for(child, name, ready)
    return Contender(name, port, child.pid)
