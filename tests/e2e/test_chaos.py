"""Phones that die in the middle of an answer: the client sees one whole answer, or is told the truth.

The counting model answers " 1 2 3 ...", a token a number: what is lost, doubled or out of order at a seam is
seen.
"""
import concurrent.futures
import threading

import pytest

import engines
from chaos import (LONG_NAME, Books, Chaos, Crowd, Cut, LlamaPhone, Told, ask_and_leave, ask_and_stall,
                   ask_slowly, ask_stream, ask_whole)
from client import counted
from harness import until

TOKENS = 400
RATE = 140  # tokens a second of each answer: 400 take 3 s
# A phone that is back from the dead is wanted at once, and rests are as short as the tests.
QUICK = {"probe_interval_s": 0.2, "breaker_open_s": 1, "breaker_max_open_s": 2, "slow_start_s": 0,
         "cache": "never", "log_format": "json"}
# Phones die here as fast as answers end: one answer may be hit more often than the default allows.
OFTEN = {"rescues": 6, "attempts": 6}


@pytest.fixture
def links(start):
    return start.own(Chaos())


@pytest.fixture
def fleet(start, links, llama_programs, counting_model):
    """Four phones as fast as real ones, with four answers at once each."""
    phones = [start.own(LlamaPhone(llama_programs, counting_model, links, f"phone-{i}", alias=LONG_NAME))
              for i in range(1, 5)]
    for phone in phones:
        phone.link.slow(RATE)
    return phones


class Timetable:
    """Waits between the events of a test: the times are what is tested, so there is nothing to wait for."""

    def __init__(self):
        self._never = threading.Event()

    def after(self, seconds):
        self._never.wait(seconds)


def rescued(gateway, outcome="ok"):
    """pocketfleet_rescues_total, which appears with the first."""
    return sum(value for (name, labels), value in gateway.metrics().items()
               if name == "pocketfleet_rescues_total" and ("outcome", outcome) in labels)


def all_well(told):
    assert {verdict for _, verdict in told.counts} == {"ok"}, told
    assert told.count("stream") and told.count("whole"), "both kinds were asked"


# ---- real engines, under load


def test_phones_are_killed_under_load(start, fleet):
    """One phone is killed every three seconds: no stream is cut or changed, no whole answer is lost."""
    gateway = start.gateway(fleet, {**QUICK, **OFTEN})
    books, crowd, time = Books(gateway, fleet), Crowd(), Timetable()
    crowd.add(12, lambda _: ask_stream(gateway, crowd.told, TOKENS))
    crowd.add(8, lambda _: ask_whole(gateway, crowd.told, TOKENS))
    for i in range(8):
        phone = fleet[i % 4]
        time.after(1.5)
        phone.kill9("rst" if i % 2 else "fin")
        time.after(1.5)
        phone.restart()
    told = crowd.go_home()
    all_well(told)
    assert told.rescues > 0, "else nothing was shown"
    assert rescued(gateway) == told.rescues, "what the clients were told is what was counted"
    books.balance()


def test_a_phone_stops_under_load(start, fleet):
    """Its connections stand and it says nothing more: after the time between two tokens others go on."""
    gateway = start.gateway(fleet, {**QUICK, "token_timeout_s": 1.5, "first_token_timeout_s": 3,
                                    "probe_timeout_s": 0.5})
    books, crowd, time = Books(gateway, fleet), Crowd(), Timetable()
    crowd.add(8, lambda _: ask_stream(gateway, crowd.told, TOKENS))
    crowd.add(4, lambda _: ask_whole(gateway, crowd.told, TOKENS))
    time.after(1.5)
    fleet[0].freeze()
    until(lambda: not gateway.phone("phone-1")["healthy"], "it to be missed")
    time.after(3)
    fleet[0].thaw()
    gateway.wait_healthy(4)
    time.after(2)
    told = crowd.go_home()
    all_well(told)
    assert told.rescues > 0, "else nothing was shown"
    assert rescued(gateway) == told.rescues
    books.balance()


def test_clients_of_every_manner_under_load(start, fleet):
    """Some leave, some read slowly, some not at all, while phones die: the others do not notice."""
    gateway = start.gateway(fleet, {**QUICK, **OFTEN, "write_stall_s": 2})
    books, crowd, time = Books(gateway, fleet), Crowd(), Timetable()
    told = crowd.told
    crowd.add(4, lambda _: ask_stream(gateway, told, TOKENS))
    crowd.add(3, lambda _: ask_whole(gateway, told, TOKENS))
    crowd.add(3, lambda rng: ask_and_leave(gateway, told, TOKENS, rng.randint(1, 200)))
    crowd.add(2, lambda _: ask_slowly(gateway, told, TOKENS, 100, crowd.home))
    crowd.add(2, lambda _: ask_and_stall(gateway, told, 999, 9, crowd.home))
    for phone in fleet:
        time.after(1.5)
        phone.kill9()
        time.after(1)
        phone.restart()
    crowd.go_home()
    for kind in ("stream", "whole", "slow"):
        assert told.count(kind) == told.count(kind, "ok") > 0, told
    assert not told.count(verdict="wrong") and not told.count(verdict="hung"), told
    assert told.count("leaving", "left") and told.count("stalled", "silent"), told
    assert not told.count("client"), told
    assert told.rescues > 0, "else nothing was shown"
    books.balance()


# ---- real engines, at every place


@pytest.fixture(scope="module")
def steps(start_once, llama_programs, tmp_path_factory):
    """Two phones with a model whose every token depends on all before it, and a gateway."""
    model = engines.make_model(tmp_path_factory.mktemp("model") / "random.gguf", "--random")
    return Pair(start_once, llama_programs, model)


@pytest.fixture(scope="module")
def pair(start_once, llama_programs, counting_model):
    return Pair(start_once, llama_programs, counting_model)


class Pair:
    """Two phones behind links, of which the first that answers is broken off."""

    def __init__(self, start, programs, model):
        links = start.own(Chaos())
        self.phones = [start.own(LlamaPhone(programs, model, links, f"phone-{i}")) for i in (1, 2)]
        self.gateway = start.gateway(self.phones, {**QUICK, "breaker_failures": 1000, "token_timeout_s": 1.5})
        self.books = Books(self.gateway, self.phones)

    def cut(self, **how):
        """Whichever phone is asked next is cut, once."""
        cut = Cut(**how)
        for phone in self.phones:
            phone.link.cut_after(cut)
        return cut

    def ask(self, **fields):
        return self.gateway.ask_stream(**fields).finish()


def whole_after(stream, cut, rescues=1):
    """A stream that was broken off once and went on."""
    assert cut.left == 0, "it was cut"
    assert stream.whole and stream.last().get("done") is True, stream.lines[-1:]
    assert stream.last()["pocketfleet"]["rescues"] == rescues
    assert not any("error" in line for line in stream.lines)
    assert [line["done"] for line in stream.lines].count(True) == 1


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("tokens", [1, 5, 20, 77, 150])
def test_the_seam_is_not_seen(steps, tokens, how):
    """Greedy, and without flash attention: the continuation is byte for byte what would have come."""
    question = {"prompt": "the seam", "tokens": 200, "options": {"temperature": 0}}
    undisturbed = steps.ask(**question)
    assert undisturbed.whole and len(undisturbed.text().split()) == 200
    cut = steps.cut(tokens=tokens, how=how)
    stream = steps.ask(**question)
    whole_after(stream, cut)
    assert stream.text() == undisturbed.text()
    assert stream.last()["eval_count"] == undisturbed.last()["eval_count"] == 200
    steps.books.balance()


@pytest.mark.parametrize("tokens", [1, 15, 16, 17, 199, 200])
def test_the_budget_holds_across_the_seam(pair, tokens):
    """num_predict tokens in all, even if all had come and only the end was missing."""
    cut = pair.cut(tokens=tokens)
    stream = pair.ask(tokens=200)
    whole_after(stream, cut)
    assert stream.text() == counted(200)
    last = stream.last()
    assert (last["done_reason"], last["eval_count"]) == ("length", 200)
    assert 5 < last["prompt_eval_count"] < 100, "the beginning of the answer is no prompt"


def test_the_budget_holds_for_a_whole_answer(pair):
    """The client of /ask has seen nothing, but what is there need not be made again."""
    cut = pair.cut(tokens=100)
    answer = pair.gateway.ask(tokens=200).json()
    assert cut.left == 0
    assert answer["message"]["content"] == counted(200)
    assert (answer["done_reason"], answer["eval_count"]) == ("length", 200)
    assert answer["pocketfleet"]["rescues"] == 1


@pytest.mark.parametrize("stop", [" 30", " 20 21", " 19 20 21 22", [" 9 9", " 21"]], ids=repr)
def test_a_stop_string_at_the_seam(pair, stop):
    """Behind it, or begun before it."""
    undisturbed = pair.ask(tokens=50, options={"stop": stop})
    cut = pair.cut(tokens=17)  # one number has waited for the next, as it might have begun the stop
    stream = pair.ask(tokens=50, options={"stop": stop})
    whole_after(stream, cut)
    assert stream.text() == undisturbed.text()
    assert stream.last()["done_reason"] == undisturbed.last()["done_reason"] == "stop"


def test_the_natural_end_behind_the_seam(pair):
    cut = pair.cut(tokens=990)
    stream = pair.ask(tokens=2000)
    whole_after(stream, cut)
    assert stream.text() == counted(999) and stream.last()["done_reason"] == "stop"


def test_cut_between_two_bytes(pair):
    """Not only between two tokens: within a line, a number, a chunk's length."""
    for at in range(2000, 2200, 13):
        cut = pair.cut(bytes=at)
        stream = pair.ask(tokens=60)
        whole_after(stream, cut)
        assert stream.text() == counted(60) and stream.last()["eval_count"] == 60, at


def test_two_phones_break_off_the_same_answer(pair):
    """The second continuation comes from the phone that failed first: the other way would be no answer."""
    cut = pair.cut(tokens=50, times=2)
    stream = pair.ask(tokens=200)
    whole_after(stream, cut, rescues=2)
    assert stream.text() == counted(200) and stream.last()["eval_count"] == 200


def test_two_phones_break_off_the_same_whole_answer(pair):
    """All have failed it, each after a part of it: the first may well be back."""
    cut = pair.cut(tokens=50, times=2)
    answer = pair.gateway.ask(tokens=200)
    assert cut.left == 0, "both were cut"
    assert answer.status == 200, answer
    assert answer.json()["message"]["content"] == counted(200)
    pair.books.balance()


def test_silence_in_mid_stream(pair):
    """No end, no reset: the time between two tokens tells."""
    cut = pair.cut(tokens=30, how="silent")
    stream = pair.ask(tokens=100)
    whole_after(stream, cut)
    assert stream.text() == counted(100)
    for phone in pair.phones:
        until(lambda: phone.link.open() <= 2, "the gateway to have left the silent connection")


def test_a_rough_network_is_no_failure(pair):
    """Stalls shorter than the time between two tokens, and single bytes at a time."""
    try:
        for phone in pair.phones:
            phone.link.stall(0.05, 0.2)
            phone.link.drip(100_000)
        stream = pair.ask(tokens=100)
        assert stream.whole and stream.text() == counted(100)
        assert stream.last()["pocketfleet"]["attempts"] == 1
        assert sum(phone.link.stalls for phone in pair.phones) > 0
    finally:
        for phone in pair.phones:
            phone.link.clear()


# ---- where nobody may go on


def told_and_cut(stream, cut, tokens=None):
    """An error that the client is told, and a body without its end."""
    assert cut.left == 0, "it was cut"
    *pieces, last = stream.lines
    assert set(last) == {"error"} and last["error"], last
    assert stream.whole is False
    assert not any(piece["done"] for piece in pieces)
    if tokens is not None:
        assert stream.text() == counted(tokens)


def test_a_client_that_wants_no_rescue(pair):
    cut = pair.cut(tokens=20)
    told_and_cut(pair.ask(tokens=100, rescue=False), cut, 20)
    again = pair.ask(tokens=100, rescue=True)
    assert again.whole and again.text() == counted(100)
    pair.books.balance()


def test_an_answer_of_a_given_form_is_not_continued(pair):
    """The grammar that holds it to its form begins anew with each request."""
    cut = pair.cut(tokens=5)
    stream = pair.ask(tokens=100, format="json", options={"temperature": 0})  # else it may be as short as {}
    told_and_cut(stream, cut)
    assert stream.text().lstrip().startswith("{")
    pair.books.balance()


def test_no_other_phone(start, links, llama_programs, counting_model):
    """Of a fleet of one: what came stays right, and its end is told."""
    phone = start.own(LlamaPhone(llama_programs, counting_model, links, "only"))
    phone.link.slow(RATE)
    gateway = start.gateway([phone], {**QUICK, "queue_wait_s": 1})
    books = Books(gateway, [phone])
    stream = gateway.ask_stream(tokens=TOKENS).begun(20)
    phone.kill9()
    stream.finish()
    assert stream.error() and stream.whole is False
    assert stream.text() == counted(stream.text().count(" "))
    phone.restart()
    gateway.wait_healthy(1)
    assert gateway.ask(tokens=20).content() == counted(20)
    books.balance()


@pytest.mark.parametrize("route", ["whole", "stream"])
def test_every_phone_with_that_model_is_gone(start, links, llama_programs, counting_model, route):
    """A whole answer, seen by nobody, is begun afresh with another model; a stream waits for one of them."""
    simulated = start.sim(2, decode_rate=100, model="tiny")
    ollamas = [links.link(phone.port, f"ollama-{i}") for i, phone in enumerate(simulated, 1)]
    other = start.own(LlamaPhone(llama_programs, counting_model, links, "llama"))
    gateway = start.gateway([*ollamas, other], {**QUICK, "probe_interval_s": 1})
    books, told, time = Books(gateway, [*ollamas, other]), Told(), Timetable()
    act = ask_whole if route == "whole" else ask_stream
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        for _ in range(3):  # in turn, so that an Ollama is asked soon
            before = sum(link.tokens for link in ollamas)
            asked = pool.submit(act, gateway, told, TOKENS)
            until(lambda: asked.done() or sum(link.tokens for link in ollamas) > before + 50, "a part of it")
            if not asked.done():
                break
        for link in ollamas:
            link.refuse()
            link.cut()
        time.after(2)
        for link in ollamas:
            link.listen()
        asked.result()
    assert told.count() == told.count(route, "ok"), told
    books.balance()


# ---- Ollama


class Twins:
    """Two simulated Ollama phones with the same model."""

    def __init__(self, start):
        self.phones = start.sim(2, "ollama", decode_rate=300, answer_tokens=60, model="tiny")
        self.gateway = start.gateway([p.entry(max_concurrency=4) for p in self.phones],
                                     {**QUICK, "breaker_failures": 1000, "token_timeout_s": 1.5})
        self.books = Books(self.gateway, self.phones)

    def broken_off(self, kind, after_tokens, **fields):
        """Asks until the faulty phone was the first to be asked; what the client of that one saw."""
        broken, good = self.phones
        self.gateway.unsuspected()
        broken.fault(kind, after_tokens=after_tokens, times=1)
        for _ in range(2):  # in turn
            before = broken.state()["requests"]
            stream = self.gateway.ask_stream(**fields).finish()
            if broken.state()["requests"] > before:
                return stream
        raise AssertionError("the faulty phone was not asked")


@pytest.fixture(scope="module")
def shared_twins(start_once):
    return Twins(start_once)


@pytest.fixture
def twins(shared_twins):
    yield shared_twins
    for phone in shared_twins.phones:
        phone.clear()


@pytest.mark.parametrize("tokens", [1, 5, 40])
@pytest.mark.parametrize("kind", ["reset_after", "close_after", "truncated", "silent_after"])
def test_ollama_goes_on_elsewhere(twins, kind, tokens):
    stream = twins.broken_off(kind, tokens, tokens=60)
    assert stream.whole and stream.last().get("done") is True, stream.lines[-1:]
    assert stream.text() == counted(60)
    assert stream.last()["eval_count"] == 60 and stream.last()["done_reason"] == "length"
    if not (kind == "reset_after" and tokens == 1):  # a reset may overtake what was sent before it
        assert stream.last()["pocketfleet"]["rescues"] == 1
        assert stream.last()["pocketfleet"]["phone"] == twins.phones[1].name
    twins.books.balance()


def test_ollama_an_end_without_done_is_told(twins):
    """Ollama ends so when a model repeats itself; another phone would only repeat it again."""
    stream = twins.broken_off("end_without_done", 5, tokens=60)
    assert set(stream.last()) == {"error"} and stream.whole is False and stream.text() == counted(5)
    twins.books.balance()


def test_ollama_goes_on_to_its_natural_end(twins):
    stream = twins.broken_off("close_after", 30)
    assert stream.whole and stream.text() == counted(60)
    assert stream.last()["done_reason"] == "stop" and stream.last()["pocketfleet"]["rescues"] == 1


def test_ollama_a_client_that_wants_no_rescue(twins):
    stream = twins.broken_off("close_after", 20, tokens=60, rescue=False)
    assert set(stream.last()) == {"error"} and stream.whole is False and stream.text() == counted(20)


def test_ollama_an_answer_of_a_given_form_is_not_continued(twins):
    stream = twins.broken_off("close_after", 5, tokens=60, format="json")
    assert set(stream.last()) == {"error"} and stream.whole is False
