"""Many requests, few phones: how a breaker takes a phone back, how often a failing phone is tried, what a
fleet in trouble is asked, and what one bad request may do. Run with -s to see the figures.
"""
import concurrent.futures
import threading
import time

import pytest

from client import Connection, counted, post, question, request
from harness import cpu_seconds, until

# Looks are rare, so that what is seen comes of the requests; rests are short.
SHORT = {"probe_interval_s": 60, "cache": "never", "breaker_failures": 3, "breaker_open_s": 1,
         "breaker_jitter": 0, "slow_start_s": 0}


def waiting(gateway):
    return request(gateway.port, "GET", "/health").json()["queue"]["waiting"]


def breaker(gateway, name):
    return gateway.phone(name)["breaker"]


def open_breaker(gateway, phone, count=3):
    """By failures; the fault stays."""
    phone.fault("error_500")
    for _ in range(count):
        assert gateway.ask().status == 502
    until(lambda: breaker(gateway, phone.name) == "open", "it to open")
    assert gateway.phone(phone.name)["healthy"] is False
    return time.monotonic()


class Waiters:
    """So many clients that ask at once, from a thread each."""

    def __init__(self, gateway, count, **more):
        self._pool = concurrent.futures.ThreadPoolExecutor(count)
        self.replies = [self._pool.submit(gateway.ask, **more) for _ in range(count)]

    def done(self):
        return sum(f.done() for f in self.replies)

    def results(self):
        found = [f.result() for f in self.replies]
        self._pool.shutdown()
        return found


class Watch(threading.Thread):
    """The most that was ever active on a phone, and its breaker at that time."""

    def __init__(self, gateway, phone):
        super().__init__()
        self.gateway, self.phone, self.most, self.enough = gateway, phone, {}, threading.Event()

    def run(self):
        while not self.enough.is_set():
            seen = self.gateway.phone(self.phone.name)
            self.most[seen["breaker"]] = max(self.most.get(seen["breaker"], 0), seen["inflight"])

    def stop(self):
        self.enough.set()
        self.join()
        return self.most


# ---- a phone that comes back


def test_a_hundred_wait_for_a_phone_that_is_tried(start):
    """One at a time is sent until the breaker has closed; then all of them are served."""
    phone = start.sim(1, answer_tokens=10, decode_rate=100, slots=8)[0]
    gateway = start.gateway([phone.entry(max_concurrency=8)],
                            {**SHORT, "queue": 200, "breaker_successes": 3, "slow_start_s": 1})
    open_breaker(gateway, phone)
    phone.clear()
    until(lambda: breaker(gateway, phone.name) == "half-open", "its rest to be over")
    assert phone.state()["requests"] == 3
    watch = Watch(gateway, phone)
    watch.start()
    crowd = Waiters(gateway, 100)
    until(lambda: crowd.done() >= 1, "the first trial to be over")
    assert phone.state()["max_active"] == 1
    until(lambda: breaker(gateway, phone.name) == "closed", "it to close")
    assert phone.state()["completed"] >= 3
    assert phone.state()["max_active"] == 1, "never more than one until then"
    assert [r.content() for r in crowd.results()] == [counted(10)] * 100
    most = watch.stop()
    assert most.get("half-open", 0) == 1, most
    assert phone.state()["requests"] == 103
    assert phone.state()["max_active"] == 8, "when it has proved itself all its permits are used"
    gateway.idle()


def test_a_trial_that_fails_makes_it_rest_for_longer(start):
    """A hundred come while it is half-open: one of them tries and fails, none of the others is sent."""
    phone = start.sim(1, answer_tokens=2)[0]
    # Who waits for the trial gives up before the next one.
    gateway = start.gateway([phone.entry(max_concurrency=8)], {**SHORT, "queue": 200, "queue_wait_s": 0.5})
    opened = open_breaker(gateway, phone)
    rests = []
    for n in range(1, 4):
        until(lambda: breaker(gateway, phone.name) == "half-open", "its rest to be over", bound=n + 3)
        rests.append(time.monotonic() - opened)
        assert phone.state()["requests"] == 2 + n, "nobody is sent while it rests"
        crowd = Waiters(gateway, 100)
        until(lambda: breaker(gateway, phone.name) == "open", "the trial to fail", step=0.002)
        opened = time.monotonic()
        replies = crowd.results()
        assert phone.state()["requests"] == 3 + n, "one of a hundred"
        assert breaker(gateway, phone.name) == "open"
        assert sorted({r.status for r in replies}) == [502, 503]
        assert sum(r.status == 502 for r in replies) == 1
        assert all(int(r.headers["Retry-After"]) >= 1 for r in replies if r.status == 503)
    print("\nrests: " + ", ".join(f"{r:.1f} s" for r in rests))
    assert rests[0] == pytest.approx(1, abs=0.4)
    assert rests[1] == pytest.approx(2, abs=0.4)
    assert rests[2] == pytest.approx(3, abs=0.4)


@pytest.mark.parametrize("how", ["close", "reset", "half_close"])
def test_a_trial_whose_client_leaves_is_no_verdict(start, how):
    """The place is free for the next at once, and neither a success nor a failure is counted."""
    phone = start.sim(1, answer_tokens=2)[0]
    gateway = start.gateway([phone.entry(max_concurrency=8)], SHORT)
    open_breaker(gateway, phone)
    phone.clear()
    until(lambda: breaker(gateway, phone.name) == "half-open", "its rest to be over")
    for after in ("half-open", "closed"):  # by the success of the next one: two are needed
        phone.fault("hang", times=1)
        with Connection(gateway.port) as trial, concurrent.futures.ThreadPoolExecutor(1) as pool:
            trial.send(post("/ask", question()))
            until(lambda: gateway.phone(phone.name)["inflight"] == 1, "the trial to run")
            next_one = pool.submit(gateway.ask)
            until(lambda: waiting(gateway) == 1, "the next to wait")
            began = time.monotonic()
            getattr(trial, how)()
            assert next_one.result().content() == counted(2)
            assert time.monotonic() - began < 1
        gateway.idle()
        assert breaker(gateway, phone.name) == after


def test_a_trial_that_hangs_is_ended_by_its_deadline(start):
    phone = start.sim(1, "llama-server", answer_tokens=2)[0]
    gateway = start.gateway([phone.entry(max_concurrency=8)], {**SHORT, "first_token_timeout_s": 1})
    open_breaker(gateway, phone)
    phone.clear()
    phone.fault("hang", times=1)
    until(lambda: breaker(gateway, phone.name) == "half-open", "its rest to be over")
    assert gateway.ask().status == 504
    assert breaker(gateway, phone.name) == "open"
    phone.clear()
    assert until(lambda: breaker(gateway, phone.name) == "half-open", "its second rest to be over")
    assert [gateway.ask().status for _ in range(2)] == [200, 200]
    assert breaker(gateway, phone.name) == "closed"


# ---- a phone that fails fast


@pytest.mark.parametrize("policy", ["weighted_round_robin", "least_loaded"])
@pytest.mark.parametrize("kind", ["busy_503", "error_500"])
def test_who_fails_fast_is_not_the_favourite(start, policy, kind):
    """Its place is always free, for it never works: still it is sent no more than its breaker allows."""
    bad, *good = start.sim(4, answer_tokens=10, decode_rate=200, slots=8, model="tiny")
    gateway = start.gateway([p.entry(max_concurrency=4) for p in (bad, *good)],
                            {"probe_interval_s": 1, "cache": "never", "policy": policy, "queue": 300,
                             "retry_floor": 100, "breaker_open_s": 2, "breaker_jitter": 0})
    bad.fault(kind)
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda _: gateway.ask(), range(200)))
    took = time.monotonic() - began
    assert [r.content() for r in replies] == [counted(10)] * 200
    asked = bad.state()["requests"]
    # Five in a row open it; those on their way then come on top; a trial after 2 s, after 4 more, ...
    trials = sum(took > t for t in (2, 6, 12))
    print(f"\n{policy}, {kind}: {asked} of 200 requests in {took:.1f} s, {trials} trials at most")
    assert asked <= 5 + 3 + trials
    assert sum(r.notes()["attempts"] for r in replies) == 200 + asked


# ---- a fleet in trouble


def test_all_phones_are_busy_for_long(start):
    """Fifty requests a second at phones that all answer 503: they are not asked several times over."""
    phones = start.sim(4, answer_tokens=2, model="tiny")
    gateway = start.gateway([p.entry(max_concurrency=4) for p in phones],
                            {"probe_interval_s": 1, "cache": "never", "breaker_open_s": 2, "queue_wait_s": 2,
                             "breaker_max_open_s": 4})
    for phone in phones:
        phone.fault("busy_503")
    statuses, lock = {}, threading.Lock()
    seconds, rate = 20, 50

    def one():
        reply = gateway.ask()
        with lock:
            statuses[reply.status] = statuses.get(reply.status, 0) + 1
        if reply.status == 503:
            assert reply.error()

    began, used = time.monotonic(), cpu_seconds(gateway)
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        futures = []
        for n in range(seconds * rate):
            time.sleep(max(0.0, began + n / rate - time.monotonic()))  # the rate under test
            futures.append(pool.submit(one))
        for future in futures:
            future.result()
    share = (cpu_seconds(gateway) - used) / (time.monotonic() - began)
    asked = sum(p.state()["requests"] for p in phones)
    print(f"\n{seconds * rate} requests: {statuses}; phones asked {asked} times; CPU {share * 100:.1f} %")
    assert set(statuses) == {503}
    assert asked <= 1.2 * seconds * rate + 3
    assert share < 0.25
    # And when they have recovered, so has the fleet.
    for phone in phones:
        phone.clear()
    until(lambda: gateway.ask().status == 200, "it to answer again", bound=15)
    gateway.wait_healthy(4)


def test_retries_are_bounded_while_phones_fail(start):
    """Where no breaker opens the budget keeps a fleet in trouble from being asked several times over."""
    phones = start.sim(3, decode_rate=100, answer_tokens=300, model="tiny", slots=64)
    gateway = start.gateway([p.entry(max_concurrency=60) for p in phones],
                            {**SHORT, "breaker_failures": 1000, "retry_share": 0.2, "retry_floor": 3})
    crowd = Waiters(gateway, 60, rescue=False)
    until(lambda: sum(p["inflight"] for p in gateway.health()) == 60, "all to run")
    assert [p["inflight"] for p in gateway.health()] == [20] * 3
    # Twenty fail at once and want to go elsewhere, where there is room for all, but no answer for now.
    for phone in phones[1:]:
        phone.fault("hang")
    phones[0].fault("crash", duration_ms=1000)

    def moved():
        return sum(p["inflight"] for p in gateway.health()[1:]) - 40
    until(lambda: moved() > 0 and moved() + waiting(gateway) == 20, "all of them to be told")
    print(f"\n{moved()} of 20 were tried again at once")
    assert moved() <= 0.2 * 60 + 3
    for phone in phones[1:]:
        phone.clear()
    assert [r.status for r in crowd.results()] == [200] * 60
    gateway.idle()


def test_all_phones_go_and_one_returns(start):
    """Those who wait are served by the one that returns, its permits at a time: nobody fails but by time."""
    phones = start.sim(3, answer_tokens=5, decode_rate=100, model="tiny", slots=8)
    gateway = start.gateway([p.entry(max_concurrency=2) for p in phones],
                            {"probe_interval_s": 0.2, "cache": "never", "queue": 100, "queue_wait_s": 6,
                             "breaker_open_s": 1, "breaker_jitter": 0, "breaker_connect_failures": 3})
    running = [gateway.ask_stream(tokens=400, rescue=False).begun() for _ in range(6)]
    crowd = Waiters(gateway, 40)
    until(lambda: waiting(gateway) == 40, "forty to wait")
    phones[0].fault("crash", duration_ms=2000)
    for phone in phones[1:]:
        phone.fault("crash", duration_ms=60_000)
    for stream in running:
        assert stream.finish().whole is False
    until(lambda: [p["healthy"] for p in gateway.health()] == [False] * 3, "all to be gone")
    assert waiting(gateway) >= 30, "they still wait"
    gateway.wait_healthy(1)
    replies = crowd.results()
    good = sum(r.status == 200 for r in replies)
    state = phones[0].state()
    print(f"\n{good} of 40 served by the one that returned, at most {state['max_active']} at once; "
          f"{sorted(r.status for r in replies if r.status != 200)}")
    assert all(r.content() == counted(5) if r.status == 200 else r.status in (502, 503) and r.error()
               for r in replies)
    assert good >= 40 - 9, "those that were sent into the crash at most"
    assert state["max_active"] <= 2
    gateway.idle()


# ---- a request that makes phones fail


def test_a_poison_request(start):
    """One that no phone survives is tried twice, and no phone rests for it, however often it comes."""
    phones = start.sim(4, answer_tokens=2, model="tiny")
    gateway = start.gateway([p.entry(max_concurrency=4) for p in phones],
                            {"probe_interval_s": 60, "cache": "never", "breaker_failures": 5})
    for n in range(1, 9):
        before = [p.state()["requests"] for p in phones]
        for phone in phones:
            phone.fault("error_500")
        assert gateway.ask("poison").status == 502
        tried = [p.state()["requests"] - b for p, b in zip(phones, before)]
        assert sum(tried) == 2 and max(tried) == 1, tried
        # Good requests come in between, as they do.
        for phone in phones:
            phone.clear()
        assert [gateway.ask().status for _ in range(4)] == [200] * 4
        assert [p["breaker"] for p in gateway.health()] == ["closed"] * 4, f"after {n}"
    assert gateway.metric("pocketfleet_attempts_total", outcome="phone_error") == 16


def test_poison_alone_charges_one_phone_for_each(start):
    """Without good ones in between: of the two that fail only the first is charged."""
    phones = start.sim(4, answer_tokens=2, model="tiny")
    gateway = start.gateway([p.entry(max_concurrency=4) for p in phones],
                            {"probe_interval_s": 60, "cache": "never", "breaker_failures": 3,
                             "breaker_open_s": 60})
    for phone in phones:
        phone.fault("error_500")
    for _ in range(8):
        assert gateway.ask("poison").status == 502
    # Eight failures charged, four phones, three each until one rests.
    assert sum(p["breaker"] == "open" for p in gateway.health()) <= 2
    for phone in phones:
        phone.clear()
    assert gateway.ask().status == 200
