"""Conversations over four real llama-servers: each goes on where its beginning is in the cache, as the phones' own
counts show; and that makes no phone the only one that works."""
import collections
import concurrent.futures
import json

import pytest

from client import request
from engines import LlamaServer
from harness import until

TURNS = 5
ANSWER = 12


def filler(words, seed):
    """Text that no other begins like."""
    return " ".join(f"{seed}w{(seed * 7919 + i * 104729) % 9973}" for i in range(words))


def counter(phone, name):
    text = request(phone.port, "GET", "/metrics").body.decode()
    line, = [l for l in text.splitlines() if l.startswith(f"llamacpp:{name} ")]
    return float(line.split()[1])


class Talk:
    """A conversation through the gateway, and what each turn took."""

    def __init__(self, gateway, about, headers=None, words=60):
        self.gateway, self.headers, self.words = gateway, headers or {}, words
        self.about, self.answer = about, ANSWER
        self.messages = [{"role": "system", "content": filler(words, about)}]
        self.phones, self.timings, self.answers = [], [], []

    def turn(self, question=None):
        asked = question or filler(self.words // 4, self.about + 100 * len(self.phones))
        self.messages.append({"role": "user", "content": asked})
        body = json.dumps({"messages": self.messages, "max_tokens": self.answer, "temperature": 0})
        reply = request(self.gateway.port, "POST", "/v1/chat/completions", body, {**self.gateway.headers, **self.headers})
        assert reply.status == 200, reply
        answer = reply.json()
        said = answer["choices"][0]["message"]["content"]
        self.messages.append({"role": "assistant", "content": said})
        self.answers.append(said)
        self.phones.append(reply.headers["X-Phone"])
        self.timings.append(answer["timings"])
        return self

    def cached(self, turn=-1):
        """Which share of that turn's prompt was not read again."""
        t = self.timings[turn]
        return t["cache_n"] / (t["cache_n"] + t["prompt_n"])


SETTINGS = {"policy": "adaptive", "queue_wait_s": 60, "cache": "never"}
COUNTED = "".join(f" {i}" for i in range(1, ANSWER + 1))


@pytest.fixture
def gateway(start, llamas):
    return start.gateway(llamas, SETTINGS)


@pytest.fixture
def slow_phones(start, llama_programs, slow_model):
    """Four on which a prompt takes longer than an answer, as on real phones."""
    return [start.own(LlamaServer(llama_programs, slow_model, "slow")) for _ in range(4)]


def test_a_conversation_goes_on_where_its_beginning_is(start, slow_phones):
    gateway = start.gateway(slow_phones, SETTINGS)
    talks = [Talk(gateway, about, words=150) for about in range(1, 5)]
    for _ in range(TURNS):
        for talk in talks:
            talk.turn()
    for talk in talks:
        assert talk.answers == [COUNTED] * TURNS
        assert len(set(talk.phones)) == 1, talk.phones
        assert min(talk.cached(i) for i in range(1, TURNS)) > 0.5, talk.timings
    # The phones' own counts say the same as their answers.
    told = collections.Counter()
    for talk in talks:
        for phone, t in zip(talk.phones, talk.timings):
            told[phone] += t["cache_n"]
    for phone in slow_phones:
        assert counter(phone, "prompt_tokens_cached_total") == told[phone.as_phone]


def sample(gateway, name, phone):
    text = request(gateway.port, "GET", "/metrics", headers=gateway.headers).body.decode()
    lines = [l for l in text.splitlines() if l.startswith(f'pocketfleet_prompt_{name}_total{{phone="{phone}"}} ')]
    return float(lines[0].split()[1]) if lines else 0.0


def believed(gateway, phones):
    """Tokens of prompts that the phones were thought to have, and that they had."""
    return tuple(sum(sample(gateway, name, p.as_phone) for p in phones)
                 for name in ("expected_cached_tokens", "cached_tokens"))


def test_an_answer_is_known_to_be_in_the_cache(start, slow_phones):
    """Short prompts, long answers: what is thought to be cached is what the phones say they had."""
    gateway = start.gateway(slow_phones, SETTINGS)
    talk = Talk(gateway, 3, words=8)
    talk.answer = 120
    shares = []
    for turn in range(TURNS):
        before = believed(gateway, slow_phones)
        talk.turn()
        thought, had = (after - b for after, b in zip(believed(gateway, slow_phones), before))
        if turn > 0:
            shares.append(thought / had)
            assert talk.cached() > 0.8, talk.timings
    assert len(set(talk.phones)) == 1, talk.phones
    # Without the answers it would be a third and less.
    assert all(0.7 < share < 1.3 for share in shares), shares


@pytest.mark.parametrize("engine_keeps", [True, False])
def test_prompts_that_lost_their_slot_are_known_if_the_engine_keeps_them(start, llama_programs, slow_model,
                                                                         engine_keeps):
    """Three conversations in turn on one slot. Today's llama-server fetches what lost it back from --cache-ram; that
    is learned from what it says it had, and not believed of one that does not."""
    more = () if engine_keeps else ("--cache-ram", "0")
    phone = start.own(LlamaServer(llama_programs, slow_model, "slow", slots=1, more=more))
    gateway = start.gateway([phone.entry(max_concurrency=1)], SETTINGS)
    talks = [Talk(gateway, about, words=100) for about in range(51, 54)]
    rounds = []
    for _ in range(TURNS):
        before = believed(gateway, [phone])
        for talk in talks:
            talk.turn()
        rounds.append([after - b for after, b in zip(believed(gateway, [phone]), before)])
    shares = [min(talk.cached(i) for talk in talks) for i in range(1, TURNS)]
    if engine_keeps:
        assert min(shares) > 0.5, "the engine has them all"
        assert rounds[1][0] < 0.5 * rounds[1][1], ("nobody knows it yet", rounds)
        assert all(0.7 < thought / had < 1.3 for thought, had in rounds[3:]), rounds
    else:
        assert max(shares) < 0.3, "each pushes the others out"
        assert all(thought < 0.3 * sum(t["prompt_n"] for t in talks[0].timings) for thought, _ in rounds), rounds


def test_conversations_side_by_side_stay_apart(start, slow_phones):
    """Eight at once, as many as there are slots."""
    gateway = start.gateway(slow_phones, SETTINGS)
    talks = [Talk(gateway, about) for about in range(11, 19)]
    with concurrent.futures.ThreadPoolExecutor(len(talks)) as pool:
        for _ in range(TURNS):
            list(pool.map(Talk.turn, talks))
    assert all(talk.answers == [COUNTED] * TURNS for talk in talks)
    later = [talk.cached(i) for talk in talks for i in range(2, TURNS)]
    assert sum(share > 0.5 for share in later) >= 0.8 * len(later), sorted(later)
    assert len({phone for talk in talks for phone in talk.phones}) == 4, "all phones take part"


def test_one_popular_beginning_does_not_flood_a_phone(gateway, llamas):
    """Many clients with the same long system prompt: the phone that has it is not the only one that works."""
    system = filler(200, 40)

    def client(number):
        talk = Talk(gateway, 40)
        talk.messages = [{"role": "system", "content": system}]
        return talk.turn(filler(10, 1000 + number)).phones[0]

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        phones = collections.Counter(pool.map(client, range(48)))
    assert len(phones) == 4, phones
    assert max(phones.values()) <= 48 / 2, phones
    gateway.idle()


def test_after_a_restart_its_conversations_go_on(start, llama_programs, slow_model, slow_phones):
    phones = slow_phones
    gateway = start.gateway(phones, {**SETTINGS, "breaker_open_s": 1, "slow_start_s": 0})
    talks = [Talk(gateway, about, words=100) for about in range(21, 25)]
    for _ in range(3):
        for talk in talks:
            talk.turn()
    lost, = [p for p in phones if p.as_phone == talks[0].phones[-1]]
    lost.kill()
    for talk in talks:
        talk.turn()
    assert lost.as_phone not in {talk.phones[-1] for talk in talks}
    start.own(LlamaServer(llama_programs, slow_model, "slow", port=lost.port))
    until(lambda: gateway.phone(lost.as_phone)["healthy"], "the phone to be back")
    for _ in range(2):
        for talk in talks:
            talk.turn()
    for talk in talks:
        assert talk.answers == [COUNTED] * 6
        assert talk.cached() > 0.5, "whoever has it now"


def test_a_session_stays_on_its_phone(gateway, llamas):
    """Even if its prompts begin differently each time; another client's request comes in between."""
    talks = {name: Talk(gateway, about, {"X-Session-Id": name}) for name, about in (("red", 31), ("blue", 32))}
    other = Talk(gateway, 33)
    for turn in range(TURNS):
        for name, talk in talks.items():
            talk.messages = [{"role": "system", "content": filler(50, 500 + 10 * turn + talk.about)}]
            talk.turn()
        other.turn()
    for name, talk in talks.items():
        assert len(set(talk.phones)) == 1, (name, talk.phones)


def test_prompt_cache_key_names_a_session_too(gateway, llamas):
    phones = set()
    for turn in range(TURNS):
        body = {"messages": [{"role": "user", "content": filler(50, 700 + turn)}], "max_tokens": 3,
                "prompt_cache_key": "my talk"}
        reply = request(gateway.port, "POST", "/v1/chat/completions", json.dumps(body), gateway.headers)
        assert reply.status == 200, reply
        phones.add(reply.headers["X-Phone"])
    assert len(phones) == 1


def test_what_was_learned_is_shown(gateway, llamas):
    Talk(gateway, 90).turn().turn()
    learned = [p for p in gateway.health() if p["speeds"]]
    assert learned
    speed, = learned[0]["speeds"]
    assert speed["answers"] == 2 and speed["decode_tokens_per_s"] > 10 and 0 < speed["slowdown"] <= 1
    name = learned[0]["name"]
    text = request(gateway.port, "GET", "/metrics", headers=gateway.headers).body.decode()
    assert f'pocketfleet_phone_decode_tokens_per_second{{phone="{name}"}}' in text
    assert f'pocketfleet_phone_slowdown_ratio{{phone="{name}"}}' in text
