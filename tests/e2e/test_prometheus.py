"""/metrics, as a real Prometheus and promtool see it."""
import collections
import concurrent.futures
import json
import statistics
import subprocess
import threading
import time

import pytest

import engines
from client import Connection, fresh, post, question, request
from engines import Prometheus
from harness import Sim, program, until
from raw.phone import HostilePhone, Ollama


@pytest.fixture(scope="module")
def programs():
    return engines.unpacked("prometheus")


@pytest.fixture(scope="module")
def phones(start_once):
    return start_once.sim(2, "ollama", decode_rate=500, answer_tokens=5, model="tiny")


@pytest.fixture(scope="module")
def gateway(start_once, phones):
    return start_once.gateway(phones, {"breaker_failures": 1000})


def a_bit_of_everything(gateway, phones):
    prompt = fresh()
    for _ in range(2):
        gateway.ask(prompt)
    gateway.ask_stream(tokens=4).finish()
    request(gateway.port, "POST", "/ask_batch", {"prompts": [fresh(), fresh()]})
    gateway.ask(model="none")
    request(gateway.port, "POST", "/ask", "{")
    request(gateway.port, "GET", "/nothing")
    request(gateway.port, "GET", "/ask")
    request(gateway.port, "GET", "/metrics")
    gateway.ask_stream(tokens=400).begun().abort()
    phones[0].fault("error_500", times=1)
    for _ in range(2):
        gateway.ask()
    phones[0].fault("reset_after", after_tokens=3, times=1)
    for _ in range(2):
        gateway.ask_stream(tokens=50).finish()
    phones[0].clear()
    gateway.idle()


def promtool_agrees(programs, text):
    done = subprocess.run([programs / "promtool", "check", "metrics"], input=text, capture_output=True, text=True,
                          timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_promtool_has_nothing_to_say(gateway, phones, programs):
    a_bit_of_everything(gateway, phones)
    promtool_agrees(programs, request(gateway.port, "GET", "/metrics").text())


# ---- names in the file: no label can be made that Prometheus does not take

ALLOWED = ["a b", "~'<i>{}()*;:@=+,$!|^`", "#1 ?x=y&z%", "{le=+Inf}", "n" * 64]
REFUSED = ['qu"ote', "back\\slash", "line\nend", "tab\t", "Küche", "\u2028", "", " a", "n" * 1000]


def test_odd_names_in_the_file(start, programs):
    phones = start.sim(len(ALLOWED), "ollama", decode_rate=500, answer_tokens=5, model="m" * 200)
    entries = [p.entry(name=name, model="m" * 200, aliases={"al'{ias}=": "m" * 200}) for p, name in zip(phones, ALLOWED)]
    gateway = start.gateway(entries)
    for _ in range(3 * len(entries)):
        gateway.ask(model="al'{ias}=")
    gateway.reload(entries)
    promtool_agrees(programs, request(gateway.port, "GET", "/metrics").text())
    seen = {dict(labels)["phone"] for (metric, labels) in gateway.metrics() if metric == "pocketfleet_attempts_total"}
    assert seen == set(ALLOWED)


@pytest.mark.parametrize("key", ["name", "model"])
def test_names_that_no_label_should_have_are_refused(key, tmp_path):
    file = tmp_path / "phones.json"
    for name in REFUSED:
        file.write_text(json.dumps([{"host": "127.0.0.1", key: name}]))
        done = subprocess.run([program(), "check", str(file)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and f"phones[0].{key}" in done.stderr, (name, done.stderr)


class OddOllama(Ollama):
    """Says that it has models of these names."""

    def page(self, path):
        odd = {"models": [{"name": name, "digest": "0"} for name in REFUSED if name]}
        return odd if path in ("/api/tags", "/api/ps") else super().page(path)


def test_what_phones_call_their_models_is_no_label(start, programs):
    phone = HostilePhone(OddOllama())
    try:
        entry = phone.entry()
        del entry["model"]
        gateway = start.gateway([entry])
        assert any('"' in name for name in gateway.health()[0]["models"]), "it was taken in"
        gateway.ask()
        text = request(gateway.port, "GET", "/metrics").text()
        promtool_agrees(programs, text)
        assert not any(part in text for part in ("ote", "slash", "Küche", "nnnnn"))
    finally:
        phone.close()


# ---- while there is much to do, or nothing to be had


def scrape(gateway, took):
    """The counters' sum of requests; every line has been read."""
    began = time.monotonic()
    samples = gateway.metrics()
    took.append(time.monotonic() - began)
    return sum(v for (name, _), v in samples.items() if name == "pocketfleet_requests_total"), samples


def test_scrapes_in_a_storm(start):
    """Many scrapers, one of which never reads, while requests come as fast as they can be asked."""
    gateway = start.gateway(start.sim(4, slots=8), {"cache": "never", "queue": 16})
    over, done, took = threading.Event(), collections.Counter(), []

    def storm(_):
        while not over.is_set():
            done[gateway.ask(tokens=20).status] += 1

    def scraper(_):
        last = 0
        for _ in range(15):
            now, samples = scrape(gateway, took)
            assert now >= last, "counters only go up"
            running = sum(v for (name, _), v in samples.items() if name == "pocketfleet_phone_in_flight")
            permits = sum(v for (name, _), v in samples.items() if name == "pocketfleet_phone_permits")
            assert running <= permits and samples["pocketfleet_queue_length", ()] <= 16
            last = now
    lazy = Connection(gateway.port)
    lazy.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)
    with concurrent.futures.ThreadPoolExecutor(18) as pool:
        asking = [pool.submit(storm, i) for i in range(8)]
        until(lambda: sum(done.values()) > 50, "the storm")
        scraping = [pool.submit(scraper, i) for i in range(10)]
        try:
            for each in scraping:
                each.result()
        finally:
            over.set()
        for each in asking:
            each.result()
    lazy.close()
    print(f"{len(took)} scrapes: median {1000 * statistics.median(took):.0f} ms, longest {1000 * max(took):.0f} ms; {dict(done)}")
    assert set(done) <= {200, 503} and done[200] > 50
    gateway.idle()
    assert gateway.metric("pocketfleet_requests_total", route="/ask", outcome="ok") == done[200]


def test_scrapes_while_all_phones_are_down(start, programs):
    sim = start.own(Sim(3))
    gateway = start.gateway(sim.phones, {"queue_wait_s": 1, "probe_interval_s": 0.5})
    gateway.ask()
    sim.kill()
    gateway.wait_healthy(0)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(gateway.ask) for _ in range(8)]
        took = []
        for _ in range(20):
            _, samples = scrape(gateway, took)
            assert [v for (name, _), v in samples.items() if name == "pocketfleet_phone_healthy"] == [0, 0, 0]
        promtool_agrees(programs, request(gateway.port, "GET", "/metrics").text())
        assert all(f.result().status == 503 for f in waiting)
    print(f"median {1000 * statistics.median(took):.0f} ms, longest {1000 * max(took):.0f} ms")
    failed = sum(v for (name, labels), v in gateway.metrics().items()
                 if name == "pocketfleet_requests_total" and ("route", "/ask") in labels and ("outcome", "ok") not in labels)
    assert failed == 8


def test_a_real_prometheus(start, gateway, phones, programs, tmp_path):
    prometheus = start.own(Prometheus(programs, tmp_path, gateway.port))
    until(lambda: prometheus.query('up{job="pocketfleet"} == 1'), "the gateway to be scraped")
    known = gateway.metric("pocketfleet_requests_total", route="/ask", outcome="ok")
    for _ in range(7):
        gateway.ask(tokens=3)
    wanted = known + 7
    until(lambda: prometheus.query('sum(pocketfleet_requests_total{route="/ask",outcome="ok"})')[0][1] == wanted,
          "the requests to be counted")
    permits = prometheus.query("sum by (phone) (pocketfleet_phone_permits)")
    assert {labels["phone"]: value for labels, value in permits} == {p.name: 1.0 for p in phones}
    # What dashboards ask: rates, and percentiles from the histograms.
    assert prometheus.query("rate(pocketfleet_requests_total[10s])")
    names = {labels["__name__"] for labels, _ in prometheus.query('{__name__=~"pocketfleet_.*_bucket"}')}
    assert any("first_token" in name for name in names), names
    for name in names:
        assert prometheus.query(f"histogram_quantile(0.9, sum by (le) ({name}))"), name
    assert prometheus.query("scrape_samples_scraped")[0][1] > 20
    # No series has a second meaning: Prometheus complains of duplicates and of bad order in its log.
    assert not [line for line in prometheus.log.lines() if "err=" in line], prometheus.log.text()


def series(gateway):
    return set(gateway.metrics())


def test_labels_come_from_configuration_only(gateway, phones):
    a_bit_of_everything(gateway, phones)
    odd = ['x" } 1\n', "ü€𝄞", "a" * 250, "{}", "\\", "../../etc/passwd", "le", "'", "\u2028"]
    before = None
    for i in range(200):
        name = odd[i % len(odd)] + str(i)
        assert gateway.ask(model=name).status in (400, 404)
        if i % 10 == 0:
            request(gateway.port, "GET", f"/path{i}")
            request(gateway.port, "POST", "/ask", {"prompt": "x", f"field{i}": 1}, {"X-Request-Id": f"id{i}"})
            request(gateway.port, f"METHOD{i}", "/ask")
        if before is None:
            before = series(gateway)  # with one of each kind
    assert series(gateway) == before


def test_outcomes_add_up_to_requests(start, phones):
    """Whatever happens to a request, it is counted once."""
    gateway = start.gateway(phones, {"queue": 2, "breaker_failures": 1000, "log_format": "json"})

    def one(i):
        if i % 5 == 0:
            client = Connection(gateway.port)
            client.send(post("/ask_stream", question(tokens=200)))
            client.reset()
        elif i % 5 == 1:
            stream = gateway.ask_stream(tokens=10)
            if stream.head() == 200:
                stream.finish()
        elif i % 5 == 2:
            gateway.ask(model="none")
        else:
            gateway.ask(tokens=20)

    phones[0].fault("reset_after", after_tokens=2, times=10)
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        list(pool.map(one, range(200)))
    phones[0].clear()
    gateway.idle()

    def counted_requests():
        return sum(value for (name, labels), value in gateway.metrics().items()
                   if name == "pocketfleet_requests_total" and dict(labels)["route"] in ("/ask", "/ask_stream"))

    # A client that reset its connection before the gateway read its request has made none.
    until(lambda: 160 <= counted_requests() <= 200, "every request to be counted")
    logged = collections.Counter((r["route"], r["outcome"]) for r in gateway.records()
                                 if r["route"] in ("/ask", "/ask_stream"))
    for (route, outcome), n in logged.items():
        assert gateway.metric("pocketfleet_requests_total", route=route, outcome=outcome) == n, (route, outcome)
    assert sum(logged.values()) == counted_requests()
    assert gateway.metric("pocketfleet_phone_in_flight") == 0 and gateway.metric("pocketfleet_queue_length") == 0


def test_counters_go_on_over_a_reload(gateway, phones):
    gateway.ask()
    before = gateway.metric("pocketfleet_requests_total", route="/ask", outcome="ok")
    gateway.reload(phones)
    gateway.ask()
    assert gateway.metric("pocketfleet_requests_total", route="/ask", outcome="ok") == before + 1


def test_a_hundred_thousand_names_make_no_series(start, phones):
    """Whatever clients call their models, keys, paths and traces: labels come from the file and from fixed lists."""
    gateway = start.gateway(phones, {"breaker_failures": 1000})

    def flood(first, last):
        """As fast as they can be sent on one connection; how many were answered."""
        connection = Connection(gateway.port)
        for begin in range(first, last, 500):
            for i in range(begin, begin + 500):
                name = f"stranger-{i}:1b"
                body = b'{"prompt":"x","model":"%s"}' % name.encode()
                head = f"POST /ask HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {name}\r\nX-Request-Id: {i}\r\n" if i % 2 else \
                    f"GET /v1/models/{name} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: {name}\r\n"
                connection.send(f"{head}Content-Length: {len(body) if i % 2 else 0}\r\n\r\n".encode() + (body if i % 2 else b""))
            for _ in range(500):
                status, headers = connection.head()
                assert status == 404 and connection.exactly(int(headers["Content-Length"]))
        return last - first

    assert flood(0, 1000) == 1000
    series(gateway)  # one of each kind, this one too
    before = series(gateway)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(lambda part: flood(*part), [(1000, 51000), (51000, 101000)])) == 100_000
    assert series(gateway) == before
    assert "stranger" not in request(gateway.port, "GET", "/metrics").text()
