"""What the fleet learns from phones that fail, and how it takes them back: breakers, the prober, slow starts."""
import concurrent.futures
import time

from client import counted
from harness import Sim, reachable, until


def test_breaker(start):
    """Opens after the failures that are set, rests, is tried by one request at a time, closes after two successes."""
    phone = start.sim(1, answer_tokens=3, decode_rate=100)[0]
    gateway = start.gateway([phone.entry(max_concurrency=4)], {"breaker_failures": 3, "breaker_open_s": 1})
    phone.fault("error_500")
    for n in range(3):
        assert gateway.health()[0]["breaker"] == "closed", n
        assert gateway.ask().status == 502
    seen = gateway.health()[0]
    assert (seen["breaker"], seen["healthy"]) == ("open", False) and seen["reason"]
    assert gateway.metric("pocketfleet_phone_breaker_state", phone=phone.name, state="open") == 1
    reply = gateway.ask()
    assert reply.status == 503 and int(reply.headers["Retry-After"]) >= 1, reply
    assert phone.state()["requests"] == 3, "it rests"

    # The trial fails: it rests again, and longer.
    until(lambda: gateway.health()[0]["breaker"] == "half-open", "the first rest to be over", bound=3)
    assert gateway.ask().status == 502
    began = time.monotonic()
    assert gateway.health()[0]["breaker"] == "open"
    phone.clear()
    until(lambda: gateway.health()[0]["breaker"] == "half-open", "the second rest to be over", bound=5)
    assert time.monotonic() - began > 1.4, "twice the time, less the jitter"
    assert phone.state()["requests"] == 4

    # Many at once: one tries; then one permit, until the phone has proved itself for a while.
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        assert list(pool.map(lambda _: gateway.ask().content(), range(6))) == [counted(3)] * 6
    assert gateway.health()[0]["breaker"] == "closed"
    assert phone.state()["max_active"] == 1
    assert gateway.health()[0]["permits"] == 1


def test_breaker_opens_after_three_refused_connects(start):
    phone = start.sim(1)[0]
    gateway = start.gateway([phone], {"probe_interval_s": 60})
    phone.fault("refuse", duration_ms=3000)
    until(lambda: not reachable(phone), "the phone to refuse")
    for _ in range(3):
        assert gateway.ask().status in (502, 503)
    assert gateway.health()[0]["breaker"] == "open"


def test_successes_in_between_keep_it_closed(start):
    phone = start.sim(1, answer_tokens=2)[0]
    gateway = start.gateway([phone], {"breaker_failures": 3})
    for _ in range(4):
        phone.fault("error_500", times=2)
        assert [gateway.ask().status for _ in range(3)] == [502, 502, 200]
    assert gateway.health()[0]["breaker"] == "closed"


def test_what_is_not_the_phones_fault_keeps_it_closed(start):
    phone = start.sim(1, decode_rate=100)[0]
    gateway = start.gateway([phone], {"breaker_failures": 2})
    for _ in range(4):
        gateway.ask_stream(tokens=500).begun().abort()
        gateway.idle()
        assert gateway.ask(model="nobody-has-it").status == 404
    assert gateway.health()[0]["breaker"] == "closed"
    assert gateway.ask(tokens=2).content() == counted(2)


def test_a_doubt_is_settled_soon(start):
    """The looks behind a failed one do not wait for their turn: three at the usual distance would take 8 s and more."""
    sim = start.own(Sim(1))
    gateway = start.gateway(sim.phones, {"probe_interval_s": 5})
    sim.kill()
    until(lambda: gateway.metric("pocketfleet_probes_total", phone=sim.phones[0].name, result="bad") > 0, "a look that fails")
    until(lambda: not gateway.health()[0]["healthy"], "it to be found dead", bound=5)
    assert gateway.metric("pocketfleet_probes_total", phone=sim.phones[0].name, result="bad") == 3


def test_prober_finds_the_dead_and_the_returned(start):
    phones = start.sim(2, answer_tokens=2)
    gateway = start.gateway(phones, {"probe_interval_s": 0.2})
    phones[0].fault("crash", duration_ms=2500)
    seen = until(lambda: None if gateway.phone(phones[0].name)["healthy"] else gateway.phone(phones[0].name),
                 "the dead phone to be seen", bound=3)
    assert seen["reason"]
    before = phones[1].state()["requests"]
    assert [gateway.ask().notes()["attempts"] for _ in range(4)] == [1] * 4, "nobody is sent to a dead phone"
    assert phones[1].state()["requests"] == before + 4
    gateway.wait_healthy(2)
    assert {gateway.ask().headers["X-Phone"] for _ in range(4)} == {p.name for p in phones}


def test_a_phone_that_still_loads(start):
    """Nobody is sent to it, everybody waits for it."""
    phone = start.sim(1, "llama-server", load_ms=1500, answer_tokens=2)[0]
    gateway = start.gateway([phone], {"probe_interval_s": 0.2}, healthy=0)
    seen = until(lambda: gateway.health()[0] if gateway.health()[0]["state"] == "loading" else None, "it to be seen")
    assert seen["healthy"] is False and "load" in seen["reason"].lower()
    reply = gateway.ask()
    assert reply.content() == counted(2) and reply.notes()["queued_ms"] > 100


def test_a_busy_phone_is_not_a_dead_phone(start):
    """A phone whose only slot works for longer than the probes would wait."""
    phone = start.sim(1, "llama-server", slots=1, decode_rate=40)[0]
    gateway = start.gateway([phone], {"probe_interval_s": 0.2})
    stream = gateway.ask_stream(tokens=100).begun()  # 2.5 s
    while stream.whole is None:
        assert gateway.health()[0]["healthy"] is True
        stream.begun(lines=len(stream.lines) + 10)
        if len(stream.lines) > 100:
            stream.finish()
    assert stream.text() == counted(100)


def test_the_fleet_goes_on_while_every_phone_stumbles(start):
    """Faults of all kinds on three of four phones, under load: no request fails, for one good phone is left."""
    phones = start.sim(4, answer_tokens=10, decode_rate=1000, model="tiny")
    gateway = start.gateway([p.entry(max_concurrency=2) for p in phones],
                            {"attempts": 4, "retry_floor": 100, "queue": 200, "breaker_failures": 1000})
    for phone, kind in zip(phones, ("error_500", "reset_after", "busy_503")):
        phone.fault(kind, times=4)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        replies = list(pool.map(lambda _: gateway.ask(), range(100)))
    assert [r.content() for r in replies] == [counted(10)] * 100
    seen = [p.state() for p in phones]
    stumbles = [state["requests"] - state["completed"] for state in seen]
    # One that has stumbled is asked last, so under little load it may keep some of its four.
    assert all(0 < n <= 4 for n in stumbles[:3]) and stumbles[3] == 0, seen
    assert sum(state["completed"] for state in seen) == 100
    # A reset of a connection that was kept from before is not told from its having been closed: asked again, uncounted.
    attempts = sum(r.notes()["attempts"] for r in replies)
    assert 100 + sum(stumbles) - stumbles[1] <= attempts <= 100 + sum(stumbles), (attempts, seen)
    gateway.idle()


def test_idle_phones_that_die_are_known_to_be_dead_in_six_seconds(start):
    """With the default looks. Each dies at another moment between two of them."""
    sims = [start.own(Sim(1)) for _ in range(5)]
    names = [sim.phones[0].name for sim in sims]
    gateway = start.gateway([sim.phones[0] for sim in sims], {"probe_interval_s": 5})
    died, seen = {}, {}

    def look():
        healthy = {p["name"]: p["healthy"] for p in gateway.health()}
        for name in names:
            if name in died and not healthy[name]:
                seen.setdefault(name, time.monotonic() - died[name])
        return len(seen)

    for i, sim in enumerate(sims):
        # About a second between two deaths, so that no two are at the same place of their phones' rhythm.
        next_death = time.monotonic() + 0.9
        until(lambda: look() >= 0 and time.monotonic() >= next_death, "the next death", step=0.05)
        sim.kill()
        died[names[i]] = time.monotonic()
    until(lambda: look() == len(sims), "all to be known", step=0.05)
    print("known to be down after", *(f"{seen[name]:.1f}" for name in names), "s")
    # 5.7 s by the clock of the unit test (core_look_memory_test.cpp). On a machine that is busy otherwise timers are
    # late and this test itself looks late: what is to be seen here is that nothing waits for another whole interval.
    assert max(seen.values()) < 8
