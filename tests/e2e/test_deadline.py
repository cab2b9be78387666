"""A client's own time: X-Request-Timeout shortens what the gateway allows, on every route that asks a model."""
import concurrent.futures
import json
import time

import pytest

from client import counted, fresh, request
from harness import until

LONG = 600  # tokens of an answer that takes far longer than any of these clients waits
SLOW = {"decode_rate": 5}
ROUTES = {
    "/ask": lambda text: {"prompt": text, "options": {"num_predict": LONG}},
    "/v1/chat/completions": lambda text: {"messages": [{"role": "user", "content": text}], "max_tokens": LONG},
    "/v1/completions": lambda text: {"prompt": text, "max_tokens": LONG},
    "/v1/messages": lambda text: {"messages": [{"role": "user", "content": text}], "max_tokens": LONG, "model": ""},
    "/api/chat": lambda text: {"messages": [{"role": "user", "content": text}], "stream": False,
                               "options": {"num_predict": LONG}},
    "/api/generate": lambda text: {"prompt": text, "stream": False, "options": {"num_predict": LONG}},
}


def post(gateway, path, body, wait, **headers):
    return request(gateway.port, "POST", path, json.dumps(body),
                   {**gateway.headers, "X-Request-Timeout": str(wait), **headers})


@pytest.fixture(scope="module")
def phones(start_once):
    return start_once.sim(1, "llama-server", **SLOW)


@pytest.fixture(scope="module")
def gateway(start_once, phones):
    return start_once.gateway(phones, {"cache": "never", "log_format": "json"})


@pytest.mark.parametrize("route", ROUTES)
def test_when_it_is_over_the_client_is_told_and_the_phone_stops(gateway, phones, route):
    began = time.monotonic()
    reply = post(gateway, route, ROUTES[route](fresh()), 0.5)
    assert 0.5 <= time.monotonic() - began < 10
    assert reply.status == 504 and "X-Request-Timeout" in reply.text(), reply
    assert reply.headers["X-Should-Retry"] == "false"
    until(lambda: phones[0].state()["active"] == 0, "the phone to stop")
    gateway.idle()
    assert gateway.record(reply.headers["X-Request-Id"])["outcome"] == "deadline"
    phone, = gateway.health()
    assert phone["healthy"] and phone["breaker"] == "closed" and not phone["suspect"], "it is not the phone's fault"


@pytest.mark.parametrize("wait", ["0", "-1", "soon", "5s", "1,5", "inf", "nan", "1e400", "0x10", "1 2"])
def test_what_is_no_number_over_0_is_refused(gateway, wait):
    reply = post(gateway, "/ask", {"prompt": "x"}, wait)
    assert reply.status == 400, reply
    assert reply.error() == f'X-Request-Timeout: found "{wait}", expected seconds, a number over 0'
    gateway.idle()


def test_it_is_refused_in_the_clients_own_dialect(gateway):
    reply = post(gateway, "/v1/chat/completions", ROUTES["/v1/chat/completions"]("x"), "soon")
    assert reply.status == 400 and reply.json()["error"]["message"].startswith("X-Request-Timeout: "), reply


@pytest.mark.parametrize("wait", ["30", "2.5e1", "100000000"])
def test_who_is_answered_in_time_notices_nothing(start, wait):
    gateway = start.gateway(start.sim(1, answer_tokens=3))
    reply = post(gateway, "/ask", {"prompt": "x"}, wait)
    if "e" in wait:
        assert reply.status == 400, "digits and a point, as everywhere in HTTP"
    else:
        assert reply.status == 200 and reply.content() == counted(3), reply


def test_a_stream_ends_with_an_error_line(gateway):
    stream = gateway.ask_stream(tokens=LONG, headers=["X-Request-Timeout: 1"])
    lines = list(stream)
    assert lines[-1] == {"error": "X-Request-Timeout: the answer took longer"}, lines[-1]
    assert len(lines) > 1 and not any(line.get("done") for line in lines)
    gateway.idle()


def test_who_waits_leaves_the_queue(gateway, phones):
    running = gateway.ask_stream(tokens=LONG)
    running.begun()
    before = phones[0].state()["requests"]
    reply = post(gateway, "/ask", {"prompt": fresh()}, 0.3)
    assert reply.status == 504 and "X-Request-Timeout" in reply.error(), reply
    assert request(gateway.port, "GET", "/health", headers=gateway.headers).json()["queue"]["waiting"] == 0
    assert phones[0].state()["requests"] == before, "the phone never heard of it"
    running.connection.close()
    gateway.idle()


def test_the_items_of_a_batch_fail_each_for_itself(start):
    gateway = start.gateway(start.sim(1, decode_rate=50), {"cache": "never"})
    items = [{"prompt": fresh(), "options": {"num_predict": n}} for n in (2, LONG, 2)]
    reply = post(gateway, "/ask_batch", {"requests": items}, 2)
    assert reply.status == 200, reply
    results = reply.json()["results"]
    assert results[0]["ok"] and results[0]["data"]["message"]["content"] == counted(2)
    assert [r["ok"] for r in results] == [True, False, False]
    assert results[1]["error"] == results[2]["error"] == "X-Request-Timeout: the answer took longer"
    gateway.idle()


def test_others_who_have_joined_get_their_answer(start):
    """The first one's time is over; the second, who asked the same, waits on."""
    phones = start.sim(1, decode_rate=20)
    gateway = start.gateway(phones, {"cache": "always"})
    body = {"prompt": fresh(), "options": {"num_predict": 40}}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        hasty = pool.submit(post, gateway, "/ask", body, 1)
        until(lambda: phones[0].state()["active"] == 1, "the phone to be at it")
        patient = pool.submit(request, gateway.port, "POST", "/ask", json.dumps(body), gateway.headers)
        assert hasty.result().status == 504
        reply = patient.result()
    assert reply.status == 200 and reply.content() == counted(40), reply
    assert phones[0].state()["requests"] == 1
    gateway.idle()


def test_embeddings_too(start):
    phones = start.sim(1, "llama-server")
    gateway = start.gateway(phones)
    asked = {"input": "x", "model": gateway.health()[0]["model"]}
    phones[0].fault("hang")
    reply = post(gateway, "/v1/embeddings", asked, 0.5)
    assert reply.status == 504, reply
    reply = post(gateway, "/v1/embeddings", asked, "soon")
    assert reply.status == 400 and "X-Request-Timeout" in reply.text(), reply


def test_it_cannot_make_the_gateway_wait_longer(start):
    gateway = start.gateway(start.sim(1, **SLOW), {"request_timeout_s": 0.5, "cache": "never"})
    reply = post(gateway, "/ask", {"prompt": fresh(), "options": {"num_predict": LONG}}, 60)
    assert reply.status == 504 and "X-Request-Timeout" not in reply.error(), reply
