"""HTTPS to clients and to phones."""
import contextlib
import http.client
import json
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import threading
import time

import pytest

from client import counted, fresh, question, request
from harness import program, until


class Authority:
    """Makes certificates, as somebody at home does."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.certificate = self.folder / "ca.pem"
        self.key = self.folder / "ca.key"
        self.openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=home", "-keyout", self.key,
                     "-out", self.certificate)

    def openssl(self, *arguments):
        done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr

    def issue(self, name, days=1, hosts="DNS:localhost,IP:127.0.0.1"):
        """(certificate, key)"""
        key, asked, made, more = (self.folder / f"{name}.{end}" for end in ("key", "csr", "pem", "ext"))
        more.write_text(f"subjectAltName={hosts}\n")
        self.openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", asked)
        self.openssl("x509", "-req", "-in", asked, "-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial", "-days",
                     str(days), "-extfile", more, "-out", made)
        key.chmod(0o600)
        return made, key


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


def trusting(home, mine=None, **limits):
    context = ssl.create_default_context(cafile=str(home.certificate))
    if mine:
        context.load_cert_chain(*map(str, mine))
    for name, value in limits.items():
        setattr(context, name, value)
    return context


@contextlib.contextmanager
def connected(gateway, context):
    with socket.create_connection(("127.0.0.1", gateway.port), 20) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as secure:
            yield secure


def ask(gateway, context, body=None, path="/ask", method="POST"):
    connection = http.client.HTTPSConnection("localhost", gateway.port, timeout=20, context=context)
    try:
        connection.request(method, path, None if method == "GET" else json.dumps(body or question(tokens=9)),
                           {"Content-Type": "application/json"})
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


class Behind:
    """How the harness's gateway is looked at: by HTTPS."""

    def __init__(self, start, home, phones, pair, **settings):
        certificate, key = pair
        folder = start.folder / f"tls-{len(start.processes)}"
        folder.mkdir()
        self.certificate, self.key = folder / "cert.pem", folder / "key.pem"
        self.put(pair)
        self.file = folder / "phones.json"
        self.file.write_text(json.dumps({
            "gateway": {"probe_interval_s": 0.3, "tls_certificate": "cert.pem", "tls_key": "key.pem", **settings},
            "phones": [p.entry() if hasattr(p, "entry") else p for p in phones]}))
        self.process = start.process("gateway", [program(), "serve", "--phones", str(self.file), "--listen", "127.0.0.1:0"])
        self.port = int(self.process.log.wait_for(r"listening on [\d.]+:(\d+)")[1])

    def put(self, pair):
        for source, target in zip(pair, (self.certificate, self.key)):
            new = target.with_suffix(".new")
            new.write_bytes(source.read_bytes())
            new.chmod(0o600)
            new.rename(target)

    def healthy(self, context, count):
        def look():
            status, body = ask(self, context, path="/health", method="GET")
            return status == 200 and sum(p["healthy"] for p in json.loads(body)["phones"]) == count
        until(look, f"{count} healthy phones")
        return self


def test_https(start, home):
    context = trusting(home)
    gateway = Behind(start, home, start.sim(1), home.issue("gateway")).healthy(context, 1)
    status, body = ask(gateway, context)
    assert status == 200 and json.loads(body)["message"]["content"] == counted(9)
    big = question(prompt=fresh() + "x" * 2_000_000, tokens=3)
    assert ask(gateway, context, big)[0] == 200, "a body of many records"
    with pytest.raises(ssl.SSLCertVerificationError):
        ask(gateway, ssl.create_default_context())
    text = ask(gateway, context, path="/metrics", method="GET")[1].decode()
    ends = float(re.search(r"^pocketfleet_tls_certificate_expiry_timestamp_seconds (\S+)$", text, re.M)[1])
    assert abs(ends - time.time() - 86400) < 600
    assert re.search(r"^pocketfleet_tls_failures_total [1-9]", text, re.M)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize(("version", "taken"), [(ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True),
                                                (ssl.TLSVersion.TLSv1_3, True)], ids=str)
def test_versions(start, home, version, taken):
    gateway = Behind(start, home, start.sim(1), home.issue("gateway"))
    context = trusting(home)
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    if taken:
        assert ask(gateway, context, path="/health", method="GET")[0] == 200
    else:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask(gateway, context, path="/health", method="GET")


def test_streams_and_pipelining(start, home):
    context = trusting(home)
    gateway = Behind(start, home, start.sim(1, decode_rate=200), home.issue("gateway")).healthy(context, 1)
    connection = http.client.HTTPSConnection("localhost", gateway.port, timeout=20, context=context)
    connection.request("POST", "/ask_stream", json.dumps(question(tokens=60)))
    lines = [json.loads(line) for line in connection.getresponse()]
    assert "".join(line["message"]["content"] for line in lines) == counted(60) and lines[-1]["done"]
    assert len(lines) > 20, "as they come"
    connection.request("GET", "/health")  # the same connection
    assert connection.getresponse().read()
    with connected(gateway, context) as two:
        one = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
        two.sendall(one + b"\r\n" + one + b"Connection: close\r\n\r\n")
        everything = b"".join(iter(lambda: two.recv(65536), b""))
        assert everything.count(b"HTTP/1.1 200 OK") == 2


def test_a_client_that_leaves_stops_the_phone(start, home):
    context = trusting(home)
    phone = start.sim(1, decode_rate=50)[0]
    gateway = Behind(start, home, [phone], home.issue("gateway")).healthy(context, 1)
    with connected(gateway, context) as client:
        body = json.dumps(question(tokens=4000)).encode()
        client.sendall(b"POST /ask_stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert client.recv(4096)
    until(lambda: phone.state()["cancelled"] == 1, "the phone was told to stop")


def test_a_slow_reader_loses_nothing(start, home):
    """Its socket is full most of the time: what could not be written is written later, in order."""
    context = trusting(home)
    gateway = Behind(start, home, start.sim(1, decode_rate=100000), home.issue("gateway")).healthy(context, 1)
    with socket.create_connection(("127.0.0.1", gateway.port), 20) as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with context.wrap_socket(plain, server_hostname="localhost") as client:
            body = json.dumps(question(tokens=4000)).encode()
            client.sendall(b"POST /ask_stream HTTP/1.0\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            text = b"".join(iter(lambda: client.recv(700), b""))
    lines = [json.loads(line) for line in text.partition(b"\r\n\r\n")[2].splitlines()]
    assert "".join(line["message"]["content"] for line in lines) == counted(4000)


def test_a_renewed_certificate(start, home):
    """SIGHUP takes it over; a stream that runs goes on, with the old one."""
    context = trusting(home)
    gateway = Behind(start, home, start.sim(1, decode_rate=40), home.issue("old")).healthy(context, 1)

    def name():
        with connected(gateway, context) as client:
            return dict(part[0] for part in client.getpeercert()["subject"])["commonName"]

    assert name() == "old"
    connection = http.client.HTTPSConnection("localhost", gateway.port, timeout=20, context=context)
    connection.request("POST", "/ask_stream", json.dumps(question(tokens=60)))
    stream = connection.getresponse()
    lines = [stream.readline()]
    gateway.put(home.issue("new"))
    gateway.process.signal(signal.SIGHUP)
    until(lambda: name() == "new", "the new certificate")
    lines += list(stream)
    assert "".join(json.loads(line)["message"]["content"] for line in lines) == counted(60)
    mark = gateway.process.log.mark()
    gateway.certificate.write_text("broken")
    gateway.process.signal(signal.SIGHUP)
    gateway.process.log.wait_for("gateway.tls_certificate.*the old fleet goes on|the old fleet goes on", start=mark)
    assert name() == "new"


def test_clients_with_certificates(start, home, tmp_path):
    other = Authority(tmp_path)
    gateway = Behind(start, home, start.sim(1), home.issue("gateway"), tls_client_ca=str(home.certificate))
    good = trusting(home, home.issue("client"))
    gateway.healthy(good, 1)
    for bad in (trusting(home), trusting(home, other.issue("stranger"))):
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
            ask(gateway, bad)
    assert ask(gateway, good)[0] == 200


def test_http_on_the_port_for_https(start, home):
    gateway = Behind(start, home, start.sim(1), home.issue("gateway"))
    reply = request(gateway.port, "GET", "/health")
    assert reply.status == 400 and "https:" in reply.text()
    with socket.create_connection(("127.0.0.1", gateway.port), 20) as client:
        client.sendall(b"\x00\x01\x02 no TLS and no HTTP either" * 10)
        assert b"HTTP" not in b"".join(iter(lambda: client.recv(100), b""))


def test_a_handshake_that_does_not_come(start, home):
    gateway = Behind(start, home, start.sim(1), home.issue("gateway"), header_timeout_s=0.3)
    with socket.create_connection(("127.0.0.1", gateway.port), 20) as silent:
        assert silent.recv(1) == b"", "closed when its time was over"


def test_mistakes(start, home, tmp_path):
    certificate, key = home.issue("gateway")
    open_key = tmp_path / "open.key"
    open_key.write_bytes(key.read_bytes())
    open_key.chmod(0o644)
    other = home.issue("other")[1]
    for settings, place, expected in (
            ({"tls_certificate": str(certificate)}, "gateway.tls_certificate", "tls_key"),
            ({"tls_key": str(key)}, "gateway.tls_key", "tls_certificate"),
            ({"tls_client_ca": str(home.certificate)}, "gateway.tls_client_ca", "tls_certificate"),
            ({"tls_certificate": "nowhere", "tls_key": str(key)}, "gateway.tls_certificate", "PEM"),
            ({"tls_certificate": str(key), "tls_key": str(key)}, "gateway.tls_certificate", "PEM"),
            ({"tls_certificate": str(certificate), "tls_key": str(certificate)}, "gateway.tls_key", "PEM"),
            ({"tls_certificate": str(certificate), "tls_key": str(other)}, "gateway.tls_key", "that certificate|PEM"),
            ({"tls_certificate": str(certificate), "tls_key": str(open_key)}, "gateway.tls_key", "others cannot read"),
            ({"tls_certificate": str(certificate), "tls_key": str(key), "tls_client_ca": str(key)}, "gateway.tls_client_ca", "PEM"),
            ({"phone_tls_ca_file": "nowhere"}, "gateway.phone_tls_ca_file", "PEM")):
        file = tmp_path / "phones.json"
        file.write_text(json.dumps({"gateway": settings, "phones": [{"host": "127.0.0.1"}]}))
        done = subprocess.run([program(), "check", str(file)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and place in done.stderr and re.search(expected, done.stderr), (settings, done.stderr)


# ---- phones


class Wrapped:
    """A phone behind a TLS server of its own, which passes all bytes on."""

    def __init__(self, phone, pair):
        self.phone, self.engine = phone, phone.engine
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*map(str, pair))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._context = context
        threading.Thread(target=self._accept, daemon=True).start()

    def entry(self, **more):
        return {"name": f"tls-{self.port}", "host": "127.0.0.1", "port": self.port, "engine": self.engine, "tls": True, **more}

    def close(self):
        self._listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain):
        with contextlib.suppress(OSError):
            with self._context.wrap_socket(plain, server_side=True) as client:
                with socket.create_connection(("127.0.0.1", self.phone.port)) as phone:
                    threading.Thread(target=self._pass, args=(phone, client), daemon=True).start()
                    self._pass(client, phone)

    @staticmethod
    def _pass(source, target):
        with contextlib.suppress(OSError, ValueError):
            while data := source.recv(65536):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("engine", ["ollama", "llama-server"])
def test_phones_with_tls(start, home, engine):
    phone = Wrapped(start.sim(1, engine, decode_rate=300, context=1 << 20)[0], home.issue("phone"))
    try:
        gateway = start.gateway([phone], {"phone_tls_ca_file": str(home.certificate)})
        for _ in range(3):
            reply = request(gateway.port, "POST", "/ask", question(tokens=40))
            assert reply.content() == counted(40)
        assert request(gateway.port, "POST", "/ask", question(prompt=fresh() + "x" * 500_000, tokens=3)).status == 200
    finally:
        phone.close()


@pytest.mark.parametrize("wrong", ["by a stranger", "for another"])
def test_phones_whose_certificate_is_not_to_be_trusted(start, home, tmp_path, wrong):
    """They get no prompt; and it is said why."""
    issuer = Authority(tmp_path) if wrong == "by a stranger" else home
    pair = issuer.issue("phone", hosts="IP:127.0.0.1" if wrong == "by a stranger" else "DNS:elsewhere,IP:127.0.0.2")
    sim = start.sim(1)[0]
    phone = Wrapped(sim, pair)
    try:
        gateway = start.gateway([phone], {"phone_tls_ca_file": str(home.certificate)}, healthy=0)
        until(lambda: "certificate" in (gateway.health()[0]["reason"] or ""), "why it gets nothing")
        assert request(gateway.port, "POST", "/ask", question(tokens=3)).status == 503
        assert sim.state()["requests"] == 0
    finally:
        phone.close()


def test_a_phone_that_speaks_no_tls(start, home):
    sim = start.sim(1)[0]
    gateway = start.gateway([sim.entry(tls=True, engine="ollama")], {"phone_tls_ca_file": str(home.certificate)}, healthy=0)
    until(lambda: "TLS" in (gateway.health()[0]["reason"] or ""), "why it gets nothing")


def test_names_of_phones_do_not_lead_out_of_the_network(start, tmp_path):
    """localhost is loopback, which is always one's own; what else a name may lead to, phone_networks says."""
    sim = start.sim(1)[0]
    gateway = start.gateway([{**sim.entry(), "host": "localhost"}], {"phone_networks": ["10.0.0.0/8"]})
    assert request(gateway.port, "POST", "/ask", question(tokens=3)).content() == counted(3)
    # Names that the resolver takes for numbers need no DNS server to lead somewhere.
    outside = start.gateway([{"name": "a", "host": "0x8.8.8.8", "engine": "ollama"}], healthy=0)
    until(lambda: "outside phone_networks" in (outside.health()[0]["reason"] or ""), "why it gets nothing")
