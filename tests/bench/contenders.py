"""Those that are measured beside each other, and what a benchmark asks the system about a process."""

import contextlib
import http.client
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import time

LISTENING_S = 20


def note(text):
    print(text, file=sys.stderr, flush=True)


# --- processes --------------------------------------------------------------------------------------------------------


def find_program(name):
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin")


def start(stack, command, log, **more):
    """A child that is stopped, by its own id, when `stack` unwinds."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log, **more)

    def stop():
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(5)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    stack.callback(stop)
    return child


def family(pid):
    """A process and all its descendants."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/stat", encoding="latin-1") as file:
                parents[int(entry)] = int(file.read().rpartition(")")[2].split()[1])
    found = [pid]
    for member in found:
        found += [child for child, parent in parents.items() if parent == member]
    return found


def cpu_seconds(pid):
    """User and system time used so far by a process, its threads (also those that have ended) and its descendants."""
    total = 0
    for member in family(pid):
        with contextlib.suppress(OSError):
            total += time.clock_gettime_ns(~member << 3 | 2)  # the id that clock_getcpuclockid(3) makes of a pid
    return total / 1e9


def memory_bytes(pid):
    """What a process and its descendants have in memory, what they share counted once (PSS)."""
    total = 0
    for member in family(pid):
        with contextlib.suppress(OSError), open(f"/proc/{member}/smaps_rollup", encoding="ascii") as file:
            total += sum(int(line.split()[1]) for line in file if line.startswith("Pss:")) * 1024
    return total


def open_files(pid):
    return sum(len(os.listdir(f"/proc/{member}/fd")) for member in family(pid))


def machine_busy():
    """Seconds of CPU time used on the whole machine since it started."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def pin(pid, cpus):
    for member in family(pid):
        for task in os.listdir(f"/proc/{member}/task"):
            os.sched_setaffinity(int(task), cpus)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def fetch(port, path, body=None):
    """Status, header fields, bytes."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        link.request("POST" if body else "GET", path, body)
        answer = link.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        link.close()


def wait_for(child, what, ready):
    deadline = time.monotonic() + LISTENING_S
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise RuntimeError(f"{what} ended with {child.returncode}")
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            if ready():
                return
        time.sleep(0.05)
    raise RuntimeError(f"{what} is not ready after {LISTENING_S} s")


# --- contenders -------------------------------------------------------------------------------------------------------

# http-no-delay: without it the kernel is told that more follows and holds tokens back, up to 200 ms, to send many in
# one segment. That is cheap, and not what is compared here.
HAPROXY_CONFIGURATION = """\
global
  nbthread {workers}
  maxconn {connections}
defaults
  mode http
  option http-keep-alive
  option http-no-delay
  http-reuse always
  timeout connect 2s
  timeout queue 120s
  timeout client 120s
  timeout server 120s
frontend clients
  bind 127.0.0.1:{port}
  http-request return status 200 content-type application/json string "{constant}" if {{ path /constant }}
  default_backend phones
backend phones
  balance roundrobin
{servers}
"""

NGINX_CONFIGURATION = """\
daemon off;
worker_processes {workers};
worker_rlimit_nofile {files};
pid {folder}/nginx.pid;
error_log {folder}/nginx.log crit;
events {{ worker_connections {connections}; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000000;
  upstream phones {{
{servers}
    keepalive 64;
    keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://phones;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
    location = /constant {{
      default_type application/json;
      return 200 "{constant}";
    }}
  }}
}}
"""


class Contender:
    """One of those measured: a running process and its port. `pid` is None where the clients talk to the phones."""

    def __init__(self, name, port, pid=None):
        self.name = name
        self.port = port
        self.pid = pid


class Setting:
    """What contenders are started for."""

    def __init__(self, stack, folder, log, phones, permits, workers=1, connections=4096, constant="x", gateway=None):
        self.stack = stack  # they end when it unwinds
        self.folder = folder
        self.log = log
        self.phones = phones  # ports
        self.permits = permits  # requests that each phone takes at once; None: what is usual
        self.workers = workers
        self.connections = connections
        self.constant = constant
        self.gateway = gateway or {}  # members of our gateway object


def start_haproxy(name, program, where):
    port = free_port()
    most = f" maxconn {where.permits}" if where.permits else ""
    servers = "\n".join(f"  server phone{i} 127.0.0.1:{phone}{most}" for i, phone in enumerate(where.phones))
    file = f"{where.folder}/{name}.cfg"
    with open(file, "w", encoding="ascii") as out:
        out.write(HAPROXY_CONFIGURATION.format(port=port, servers=servers, constant=where.constant,
                                               workers=where.workers, connections=where.connections))
    child = start(where.stack, [program, "-db", "-q", "-f", file], where.log, stdout=where.log)
    wait_for(child, name, lambda: fetch(port, "/api/version")[0] == 200)
    return Contender(name, port, child.pid)


def start_nginx(name, program, where):
    port = free_port()
    servers = "\n".join(f"    server 127.0.0.1:{phone};" for phone in where.phones)
    file = f"{where.folder}/{name}.conf"
    with open(file, "w", encoding="ascii") as out:
        out.write(NGINX_CONFIGURATION.format(port=port, servers=servers, folder=where.folder, constant=where.constant,
                                             workers=where.workers, connections=2 * where.connections,
                                             files=resource.getrlimit(resource.RLIMIT_NOFILE)[0]))
    command = [program, "-p", where.folder, "-e", f"{where.folder}/nginx.log", "-c", file]
    child = start(where.stack, command, where.log, stdout=where.log)
    wait_for(child, name, lambda: fetch(port, "/api/version")[0] == 200)
    return Contender(name, port, child.pid)


def start_pocketfleet(name, program, where):
    port = free_port()
    entries = [{"host": "127.0.0.1", "port": phone, "engine": "ollama", "model": "bench",
                "max_concurrency": where.permits or 64} for phone in where.phones]
    file = f"{where.folder}/{name}.json"
    gateway = {"log_level": "warning", "workers": where.workers, "connections": where.connections, **where.gateway}
    with open(file, "w", encoding="ascii") as out:
        json.dump({"gateway": gateway, "phones": entries}, out)
    command = [program, "serve", "--phones", file, "--listen", f"127.0.0.1:{port}"]
    child = start(where.stack, command, where.log, stdout=where.log)

    def ready():
        status, _, body = fetch(port, "/health")
        return status == 200 and all(phone["healthy"] for phone in json.loads(body)["phones"])

    wait_for(child, name, ready)
    return Contender(name, port, child.pid)


STARTERS = {"haproxy": start_haproxy, "nginx": start_nginx}


def start_contender(name, program, where):
    """By its name; every other than the proxies' is a build of ours."""
    return STARTERS.get(name, start_pocketfleet)(name, program, where)
