"""A group as one phone of the fleet: watched by its supervisor's word, rescued, stood in for."""
import http.server
import json
import signal
import threading
import time

import pytest

from client import counted, fresh, request
from engines import LlamaServer
from groups import Group, of_another_version
from harness import until


@pytest.fixture
def group(start, llama_programs, slow_model):
    made = start.own(Group(start.folder / "group", llama_programs, slow_model, frozen_limit_s=60))
    made.ready()
    return made


def entry(group, **more):
    return {"name": "big", "host": "127.0.0.1", "port": group.port, "model": "big", "group": {
        "members": [{k: w[k] for k in ("name", "host", "port")} for w in group.config["workers"]],
        "status": f"http://127.0.0.1:{group.status_port}", **more}}


def state(gateway):
    return next(p for p in gateway.health() if p["name"] == "big")


def metric(gateway, now):
    text = request(gateway.port, "GET", "/metrics").text()
    return f'pocketfleet_group_state{{phone="big",state="{now}"}} 1' in text


def test_a_group_that_cannot_is_named_and_stood_in_for(start, llama_programs, counting_model, group):
    small = start.own(LlamaServer(llama_programs, counting_model, alias="small"))
    gateway = start.gateway([entry(group, stand_in="small"), small], {"probe_interval_s": 0.3})
    assert state(gateway)["permits"] == 1
    assert [(m["name"], m["state"]) for m in state(gateway)["group"]["members"]] == [("a", "up"), ("b", "up")]
    assert metric(gateway, "serving")
    reply = gateway.ask(model="big", tokens=5)
    assert reply.headers["X-Phone"] == "big" and "X-Stand-In" not in reply.headers
    assert "stand_in" not in reply.notes()

    group.signal_member("b", signal.SIGSTOP)  # of which /health of llama-server says nothing
    until(lambda: not state(gateway)["healthy"], "the group to be down")
    seen = state(gateway)
    assert seen["state"] == "down" and seen["reason"] == "its group: b stands stopped"
    assert [m["state"] for m in seen["group"]["members"]] == ["up", "frozen"]
    assert metric(gateway, "healing") and not metric(gateway, "serving")

    reply = gateway.ask("the same again", model="big", tokens=5)
    assert reply.content() == counted(5)
    assert reply.headers["X-Stand-In"] == "small" == reply.notes()["stand_in"]
    assert reply.headers["X-Phone"] == small.as_phone
    stream = gateway.ask_stream(model="big", tokens=5)
    stream.finish()
    assert stream.whole and stream.last()["pocketfleet"]["stand_in"] == "small"
    chat = request(gateway.port, "POST", "/v1/chat/completions", {
        "model": "big", "max_tokens": 5, "messages": [{"role": "user", "content": "count"}]})
    assert chat.status == 200 and chat.headers["X-Stand-In"] == "small"

    group.signal_member("b", signal.SIGCONT)
    until(lambda: state(gateway)["healthy"], "the group to be back")
    reply = gateway.ask("the same again", model="big", tokens=5)
    assert reply.headers["X-Phone"] == "big" and "X-Stand-In" not in reply.headers
    assert reply.headers["X-Cache"] == "miss", "what the stand-in said is not the group's answer"


def test_another_version_is_named(start, llama_programs, slow_model):
    group = start.own(Group(start.folder / "group", llama_programs, slow_model, longest_pause_s=0.3, workers=[
        {"host": "127.0.0.2"}, {"host": "127.0.0.3", **of_another_version("V9.1.2")}]))
    gateway = start.gateway([entry(group)], {"probe_interval_s": 0.3}, healthy=0)
    seen = until(lambda: (s := state(gateway))["group"]["fault"] == "version_mismatch" and s, "the gateway to hear of it")
    assert not seen["healthy"]
    assert seen["group"]["reason"] == "b does not go together with the master: they speak different versions"
    assert seen["reason"].endswith(seen["group"]["reason"])


@pytest.mark.parametrize("what", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_stream_survives_its_group(start, llama_programs, slow_model, group, what):
    """Another phone has the very same model: it goes on where the group was."""
    other = start.own(LlamaServer(llama_programs, slow_model, alias="big"))
    gateway = start.gateway([{**entry(group), "weight": 1000}, {**other.entry(), "max_concurrency": 1}], {
        "probe_interval_s": 0.3, "token_timeout_s": 1})
    stream = gateway.ask_stream(model="big", tokens=900).begun(lines=5)
    assert stream.headers["X-Phone"] == "big"
    group.signal_member("a", what)
    stream.finish()
    assert stream.whole and stream.text() == counted(900)
    notes = stream.last()["pocketfleet"]
    assert notes["rescues"] == 1 and notes["phone"] == other.as_phone
    if what == signal.SIGKILL:
        until(lambda: state(gateway)["healthy"], "the group to be healed and in the fleet again", bound=40)


@pytest.mark.parametrize("what", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_whole_answer_survives_its_group(start, llama_programs, slow_model, group, what):
    other = start.own(LlamaServer(llama_programs, slow_model, alias="big"))
    gateway = start.gateway([{**entry(group), "weight": 1000}, {**other.entry(), "max_concurrency": 1}], {
        "probe_interval_s": 0.3, "token_timeout_s": 1})
    replies = []
    client = threading.Thread(target=lambda: replies.append(gateway.ask(model="big", tokens=900)))
    before = group.worker_log("a").count("graph_recompute")
    client.start()
    until(lambda: group.worker_log("a").count("graph_recompute") > before + 20, "the workers to compute for it")
    group.signal_member("a", what)
    client.join()
    reply, = replies
    assert reply.content() == counted(900) and reply.headers["X-Phone"] == other.as_phone
    assert reply.notes()["attempts"] == 2


def test_a_stream_goes_on_in_another_group(start, llama_programs, slow_model, group):
    """No phone has the model alone. The supervisor ends what stands, long before the gateway would lose patience."""
    second = start.own(Group(start.folder / "second", llama_programs, slow_model, workers=[{"host": "127.0.0.4"}]))
    second.ready()
    first = start.own(Group(start.folder / "first", llama_programs, slow_model, workers=[{"host": "127.0.0.5"}]))
    first.ready()
    gateway = start.gateway([{**entry(first), "weight": 1000}, {**entry(second), "name": "second"}], {
        "probe_interval_s": 0.3, "token_timeout_s": 300})
    stream = gateway.ask_stream(model="big", tokens=900).begun(lines=5)
    assert stream.headers["X-Phone"] == "big"
    first.signal_member("a", signal.SIGSTOP)
    stream.finish()
    assert stream.whole and stream.text() == counted(900)
    notes = stream.last()["pocketfleet"]
    assert notes["rescues"] == 1 and notes["phone"] == "second"


# ---- what the supervisor says of what is under way


class Supervisor(http.server.ThreadingHTTPServer):
    """Says what it is told to say."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps(self.server.says).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    daemon_threads = True
    SERVING = {"state": "serving", "usable": True, "fault": "none", "reason": "", "members": []}

    def __init__(self):
        self.says = self.SERVING
        super().__init__(("127.0.0.1", 0), self.Handler)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def fails(self, state="healing", fault="master_hung"):
        self.says = {"state": state, "usable": False, "fault": fault, "reason": "b is no longer heard by the master"}


@pytest.fixture
def supervisor(request):
    made = Supervisor()
    request.addfinalizer(lambda: (made.shutdown(), made.server_close()))
    return made


@pytest.fixture
def hanging(start, supervisor):
    """A gateway whose group falls silent after 20 tokens and keeps its connections, as a master elsewhere may; and another
    phone with the same model. Left alone, it would wait for five minutes."""
    master, other = start.sim(2, engine="llama-server", decode_rate=200)
    status = f"http://127.0.0.1:{supervisor.server_address[1]}"
    big = master.entry(name="big", weight=1000, group={"members": [{"name": "b", "host": "10.9.9.9"}], "status": status})
    gateway = start.gateway([big, other.entry(name="other")], {
        "probe_interval_s": 5, "token_timeout_s": 300, "first_token_timeout_s": 300})
    master.fault("silent_after", after_tokens=20)
    return gateway, master


def test_a_stream_does_not_wait_for_a_group_that_is_given_up(hanging, supervisor):
    gateway, master = hanging
    stream = gateway.ask_stream(tokens=100).begun(lines=20)
    assert stream.headers["X-Phone"] == "big"
    supervisor.fails()
    began = time.monotonic()
    stream.finish()
    print(f"MEASURED given up: the other phone had ended the answer {time.monotonic() - began:.2f} s after it was said")
    assert stream.whole and stream.text() == counted(100)
    notes = stream.last()["pocketfleet"]
    assert notes["rescues"] == 1 and notes["phone"] == "other"
    assert gateway.phone("big")["reason"] == "its group: b is no longer heard by the master"
    assert gateway.phone("big")["group"]["fault"] == "master_hung"
    assert gateway.metric("pocketfleet_attempts_total", phone="big", outcome="connection_lost") == 1
    assert gateway.phone("big")["inflight"] == 0


def test_nor_does_a_whole_answer_or_one_that_has_not_begun(hanging, supervisor):
    gateway, master = hanging
    for kind in ("silent_after", "hang"):
        supervisor.says = supervisor.SERVING
        until(lambda: gateway.phone("big")["healthy"], "the group to be well")
        master.fault(kind)
        replies = []
        client = threading.Thread(target=lambda: replies.append(gateway.ask(fresh(), tokens=60)))
        client.start()
        until(lambda: gateway.phone("big")["inflight"] == 1, "the group to have it")
        supervisor.fails("starting", "none")  # a supervisor that was started anew: what it finds is not what ran before
        client.join(60)
        reply, = replies
        assert reply.content() == counted(60) and reply.headers["X-Phone"] == "other"


def test_who_only_stands_stopped_may_go_on(hanging, supervisor):
    gateway, master = hanging
    stream = gateway.ask_stream(tokens=100).begun(lines=20)
    supervisor.fails("healing", "none")
    until(lambda: not gateway.phone("big")["healthy"], "the group to be down")
    assert gateway.phone("big")["inflight"] == 1, "nothing is lost yet"
    supervisor.fails()
    stream.finish()
    assert stream.text() == counted(100)


def test_without_another_phone_it_is_said(start, supervisor):
    """A client that waits for nobody is told, instead of hanging as long as its group."""
    master, = start.sim(1, engine="llama-server", decode_rate=200)
    status = f"http://127.0.0.1:{supervisor.server_address[1]}"
    gateway = start.gateway([master.entry(group={"members": [{"host": "10.9.9.9"}], "status": status})], {
        "token_timeout_s": 300, "queue_wait_s": 1})
    master.fault("silent_after", after_tokens=20)
    stream = gateway.ask_stream(tokens=100).begun(lines=20)
    supervisor.fails()
    stream.finish()
    assert stream.error() and not stream.whole


def test_without_its_supervisor_the_master_is_believed(start, group):
    unheard = entry(group)
    unheard["group"]["status"] = f"http://127.0.0.1:{group.port + 1}"
    gateway = start.gateway([unheard])
    assert gateway.ask(model="big", tokens=3).content() == counted(3)
    assert state(gateway)["group"]["state"] == "unreachable" and metric(gateway, "unreachable")
