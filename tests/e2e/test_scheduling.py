"""Who gets which phone, and when: weights, permits, the queue."""
import collections
import concurrent.futures
import threading
import time

import pytest

from client import Connection, counted, post, question, request
from harness import until


def names(phones):
    return [p.name for p in phones]


def waiting(gateway):
    return request(gateway.port, "GET", "/health").json()["queue"]["waiting"]


# ---- weights


@pytest.mark.parametrize("engine", ["ollama", "llama-server"])
def test_weights_are_exact_over_every_window(start, engine):
    phones = start.sim(3, engine, answer_tokens=1)
    gateway = start.gateway([p.entry(weight=w) for p, w in zip(phones, (3, 2, 1))])
    order = [gateway.ask().headers["X-Phone"] for _ in range(60)]
    wanted = dict(zip(names(phones), (3, 2, 1)))
    for begin in range(len(order) - 5):
        assert collections.Counter(order[begin:begin + 6]) == wanted, (begin, order)
    assert all(order[i:i + 3] != [phones[0].name] * 3 for i in range(len(order))), "smooth, not in blocks"


def test_weights_are_exact_under_load(start):
    phones = start.sim(3, answer_tokens=5, decode_rate=500)
    gateway = start.gateway([p.entry(weight=w, max_concurrency=8) for p, w in zip(phones, (3, 2, 1))])
    # 6 at once, 8 permits on each: no phone is ever full, so every request has the same candidates.
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        replies = list(pool.map(lambda _: gateway.ask(), range(240)))
    assert all(r.content() == counted(5) for r in replies)
    assert collections.Counter(r.headers["X-Phone"] for r in replies) == dict(zip(names(phones), (120, 80, 40)))
    assert [p.state()["requests"] for p in phones] == [120, 80, 40]


def test_equal_weights_take_turns(start):
    phones = start.sim(3, answer_tokens=1)
    gateway = start.gateway(phones)
    order = [gateway.ask().headers["X-Phone"] for _ in range(9)]
    assert order[:3] == order[3:6] == order[6:9] and set(order) == set(names(phones))


# ---- permits


def test_permits_are_never_exceeded(start):
    """The phones could run 8 at once; they are given what phones.json allows, and all of it."""
    phones = start.sim(3, answer_tokens=10, decode_rate=400)
    permits = (1, 2, 3)
    gateway = start.gateway([p.entry(max_concurrency=n) for p, n in zip(phones, permits)], {"queue": 64})
    inflight_seen, done = [], threading.Event()

    def watch():
        while not done.is_set():
            inflight_seen.append([p["inflight"] for p in gateway.health()])

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with concurrent.futures.ThreadPoolExecutor(40) as pool:
            texts = list(pool.map(lambda _: gateway.ask().content(), range(160)))
    finally:
        done.set()
        watcher.join()
    assert texts == [counted(10)] * 160
    assert [p.state()["max_active"] for p in phones] == list(permits)
    assert all(seen <= n for row in inflight_seen for seen, n in zip(row, permits))
    gateway.idle()


def test_permits_survive_failures_and_clients_that_leave(start):
    phones = start.sim(2, answer_tokens=30, decode_rate=600)
    gateway = start.gateway([p.entry(max_concurrency=2) for p in phones], {"breaker_failures": 1000, "retry_floor": 100, "queue": 200})

    def one(i):
        if i % 4 == 0:
            gateway.ask_stream().begun(lines=2 + i % 5).abort()
        elif i % 4 == 1:
            client = Connection(gateway.port)
            client.send(post("/ask", question()))
            client.reset()
        elif i % 4 == 2:
            gateway.ask_stream().finish()
        else:
            gateway.ask()

    for phone, kind in zip(phones, ("reset_after", "error_500")):
        phone.fault(kind, after_tokens=20, times=15)
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        list(pool.map(one, range(120)))
    gateway.idle()
    for phone in phones:
        phone.clear()
        until(lambda: phone.state()["active"] == 0, "the phone to be free")
        # A phone may hear of the next request before it has noticed that a client has left: once for each permit.
        assert phone.state()["max_active"] <= 4
    # All four permits are there, and no more than these.
    streams = [gateway.ask_stream(tokens=400).begun() for _ in range(4)]
    assert [p["inflight"] for p in gateway.health()] == [2, 2]
    for stream in streams:
        assert stream.finish().text() == counted(400)


def test_slots_of_the_phone_bound_its_permits(start):
    """llama-server says how many it can run; phones.json asks for more."""
    phones = start.sim(1, "llama-server", slots=2, answer_tokens=10, decode_rate=400)
    gateway = start.gateway([phones[0].entry(max_concurrency=6)])
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda _: gateway.ask().content(), range(24)))
    assert texts == [counted(10)] * 24
    assert phones[0].state()["max_active"] == 2
    assert gateway.health()[0]["permits"] == 2


# ---- the queue


@pytest.fixture
def busy(start):
    """One phone with one permit, 50 tokens a second; and a gateway that lets three wait, 20 s."""
    phone = start.sim(1, decode_rate=50, answer_tokens=5)[0]
    return start.gateway([phone], {"queue": 3, "queue_wait_s": 20}), phone


def test_full_queue_says_when_to_come_back(busy):
    gateway, phone = busy
    running = gateway.ask_stream(tokens=100).begun()
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        queued = [pool.submit(gateway.ask) for _ in range(3)]
        until(lambda: waiting(gateway) == 3, "three to wait")
        began = time.monotonic()
        for path in (gateway.ask, lambda: gateway.ask(cache=False)):
            reply = path()
            assert reply.status == 503, reply
            assert int(reply.headers["Retry-After"]) >= 1
            assert reply.error()
        assert time.monotonic() - began < 1, "refused at once"
        stream = gateway.ask_stream()
        assert stream.head() == 503
        assert int(stream.headers["Retry-After"]) >= 1
        assert running.finish().text() == counted(100)
        assert [f.result().content() for f in queued] == [counted(5)] * 3, "those who waited were served"
    assert phone.state()["requests"] == 4, "who was refused never reached a phone"


def test_queue_is_first_in_first_out(busy):
    gateway, phone = busy
    running = gateway.ask_stream(tokens=60).begun()
    finished, futures = [], []
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        for i in range(3):
            futures.append(pool.submit(lambda i=i: (gateway.ask().content(), finished.append(i))))
            until(lambda: waiting(gateway) == i + 1, f"{i + 1} to wait")
        running.finish()
        for f in futures:
            f.result()
    assert finished == [0, 1, 2]
    assert phone.state()["max_active"] == 1


def test_queued_time_is_told(busy):
    gateway, _ = busy
    running = gateway.ask_stream(tokens=30).begun()  # 0.6 s
    reply = gateway.ask(tokens=1)
    assert 200 <= reply.notes()["queued_ms"] <= 5000, reply.notes()
    running.finish()


def test_waiting_has_a_deadline(start):
    phone = start.sim(1, decode_rate=20)[0]
    gateway = start.gateway([phone], {"queue_wait_s": 0.3})
    running = gateway.ask_stream(tokens=60).begun()
    began = time.monotonic()
    reply = gateway.ask()
    assert reply.status == 503 and int(reply.headers["Retry-After"]) >= 1, reply
    assert 0.25 < time.monotonic() - began < 3
    assert running.finish().text() == counted(60)
    assert phone.state()["requests"] == 1


@pytest.mark.parametrize("leave", ["reset", "close"])
def test_who_leaves_the_queue_is_never_sent(busy, leave):
    gateway, phone = busy
    running = gateway.ask_stream(tokens=50).begun()
    client = Connection(gateway.port)
    client.send(post("/ask", question()))
    until(lambda: waiting(gateway) == 1, "one to wait")
    getattr(client, leave)()
    until(lambda: waiting(gateway) == 0, "it to leave the queue", bound=2)
    assert gateway.ask(tokens=3).content() == counted(3)
    running.finish()
    assert phone.state()["requests"] == 2


def test_nobody_waits_behind_a_particular_phone(start):
    """Late binding: with one phone stuck in a long answer, everything else goes to the other."""
    phones = start.sim(2, decode_rate=400, answer_tokens=4)
    gateway = start.gateway(phones)
    long = gateway.ask_stream(tokens=2000).begun()
    held = long.headers["X-Phone"]
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        replies = list(pool.map(lambda _: gateway.ask(), range(30)))
    assert [r.content() for r in replies] == [counted(4)] * 30
    assert held not in {r.headers["X-Phone"] for r in replies}
    long.abort()


# ---- models


def test_a_model_binds_to_the_phones_that_have_it(start):
    small = start.sim(2, model="small:1b", answer_tokens=2)
    large = start.sim(1, "llama-server", model="large", answer_tokens=2)
    gateway = start.gateway(small + large)
    replies = [gateway.ask(model="large") for _ in range(4)]
    assert {r.headers["X-Phone"] for r in replies} == {large[0].name}
    replies = [gateway.ask(model="small:1b") for _ in range(4)]
    assert {r.headers["X-Phone"] for r in replies} == set(names(small))
    reply = gateway.ask(model="medium")
    assert reply.status == 404 and "small:1b" in reply.error() and "large" in reply.error()


def test_a_wait_for_one_model_does_not_hold_up_another(start):
    slow = start.sim(1, model="slow", decode_rate=30)
    quick = start.sim(1, model="quick", answer_tokens=3)
    gateway = start.gateway(slow + quick)
    running = gateway.ask_stream(model="slow", tokens=90).begun()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        first_in_line = pool.submit(lambda: gateway.ask(model="slow", tokens=2))
        until(lambda: waiting(gateway) == 1, "one to wait")
        for _ in range(5):
            assert gateway.ask(model="quick").headers["X-Phone"] == quick[0].name
        assert not first_in_line.done()
        running.finish()
        assert first_in_line.result().content() == counted(2)


# ---- policies


def test_least_loaded(start):
    phones = start.sim(2, decode_rate=100, answer_tokens=2)
    gateway = start.gateway([p.entry(max_concurrency=4) for p in phones], {"policy": "least_loaded"})
    held = [gateway.ask_stream(tokens=600).begun() for _ in range(2)]
    assert {s.headers["X-Phone"] for s in held} == set(names(phones)), "one each"
    held[0].abort()
    free = held[0].headers["X-Phone"]
    until(lambda: gateway.phone(free)["inflight"] == 0, "the phone to be free")
    assert {gateway.ask().headers["X-Phone"] for _ in range(6)} == {free}, "while the other has one in flight"
    held[1].abort()


def test_least_loaded_by_weight(start):
    """Twice the weight bears twice the load."""
    phones = start.sim(2, decode_rate=20)
    gateway = start.gateway([p.entry(weight=w, max_concurrency=6) for p, w in zip(phones, (2, 1))],
                            {"policy": "least_loaded"})
    held = [gateway.ask_stream(tokens=400).begun() for _ in range(6)]
    assert [p["inflight"] for p in gateway.health()] == [4, 2]
    for stream in held:
        stream.abort()


# ---- who goes first


@pytest.mark.parametrize("path, body, headers", [
    ("/ask", {}, {"X-Priority": "batch"}),
    ("/ask_batch", {"requests": [{"prompt": "patient", "options": {"num_predict": 2}}]}, {}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "patient"}], "max_tokens": 2,
                              "service_tier": "flex"}, {}),
])
def test_who_is_patient_lets_others_go_first(start, path, body, headers):
    phone, = start.sim(1, slots=1, decode_rate=100)
    gateway = start.gateway([phone])
    busy = gateway.ask_stream(tokens=100).begun()
    ended = []

    def ask(who, path, body, headers):
        reply = request(gateway.port, "POST", path, body, headers)
        ended.append((who, reply.status))

    hurried = {"prompt": "hurried", "options": {"num_predict": 2}}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        pool.submit(ask, "patient", path, body or {**hurried, "prompt": "patient"}, headers)
        until(lambda: waiting(gateway) == 1, "the patient one to wait")
        pool.submit(ask, "hurried", "/ask", hurried, {})
        until(lambda: waiting(gateway) == 2, "both to wait")
        busy.finish()
    assert ended == [("hurried", 200), ("patient", 200)]
