"""The phones of `live`, and what is asked of them: the same as in tests/bench/fleet, with real text.

Everything is drawn from a seed. Times and rates are the phones' own; who runs them divides times, and multiplies rates,
by how much time is compressed.
"""

import functools
import json
import math
import random

MODEL = "drawer"

# Name, tokens/s of answers, tokens/s of prompts: those of tests/bench/fleet/phones.cpp, which names the sources.
KINDS = {
    "8-elite": (20.4, 98.3),
    "8-gen3": (12.4, 60.0),
    "8-gen2": (15.5, 72.7),
    "tensor-g3": (10.0, 40.0),
    "tensor-g1": (6.8, 8.9),
    "sd-720g": (7.0, 26.0),
    "sd-845": (2.4, 10.0),
}
FLEETS = {
    "mixed-6": ("8-elite", "8-gen2", "8-gen3", "tensor-g3", "sd-720g", "sd-845"),
    "mixed-12": ("8-elite", "8-elite", "8-gen2", "8-gen2", "8-gen3", "tensor-g3", "tensor-g3", "tensor-g1", "sd-720g",
                 "sd-720g", "sd-845", "sd-845"),
}
SPREAD = 0.12  # cases, versions, what else runs on the phone
GAIN_OF_TWO = 0.15  # two requests at once get done so much more than one
HEAVIEST = 100  # weight of the fastest phone

# What an hour of work does: one of the fastest is throttled to half its speed, another one has gone slow.
LATER = {"8-elite": 0.5, "8-gen2": 0.2}

# Android kills an engine, and its starter starts it anew: once a minute one of them (on the grim side), for so long.
KILLS_EVERY_S = 60
KILLED_FOR_S = 20

CHARACTERS_A_TOKEN = 4
LONGEST_ANSWER = 600
TURNS = 6
# Turns as they come, in parts of the lone questions that the fleet can do. A turn's prompt is all that was said before:
# without prompt caches the second of these is more than can be done.
CONVERSING = {"": 0.25, "overloaded": 0.8}
APPLICATIONS = 8  # each with a system prompt of its own
WARM_UP = 2  # requests a permit before anything counts
WARM_UP_ANSWER = 120


class Phone:
    """`weight` is the one that an exact man writes down when the phone is cool."""

    def __init__(self, name, kind, decode, prefill, permits):
        self.name = name
        self.kind = kind
        self.decode = decode
        self.prefill = prefill
        self.permits = permits
        self.weight = 1
        self.later = 1.0  # share of its speed that is left an hour later

    def capacity(self, prompt, answer):
        """Such requests a second that it can do, cool."""
        gain = 1 + GAIN_OF_TWO * (self.permits - 1)
        return gain / (prompt / self.prefill + answer / self.decode)


def make_fleet(name, seed):
    """Phones in no order that helps, with true weights."""
    chance = random.Random(f"fleet {name} {seed}")
    phones = []
    for number, kind in enumerate(FLEETS[name], 1):
        luck = 1 + SPREAD * chance.uniform(-1, 1)
        decode, prefill = KINDS[kind]
        first = kind not in [phone.kind for phone in phones]
        phones.append(Phone(f"{kind}-{number}", kind, decode * luck, prefill * luck,
                            2 if kind == "8-elite" and first else 1))
        if first:
            phones[-1].later = LATER.get(kind, 1.0)
    usual = means()
    most = max(phone.capacity(*usual) for phone in phones)
    for phone in phones:
        phone.weight = max(1, round(HEAVIEST * phone.capacity(*usual) / most))
    chance.shuffle(phones)
    return phones


class Request:
    """One question. `at`: seconds from the beginning; with `after`, another request: from that one's end."""

    def __init__(self, body, answer, ends_by, at, after=None, conversation=None, batch=False):
        self.body = body
        self.answer = answer  # tokens, the text is text_of(answer)
        self.ends_by = ends_by  # what finish_reason has to say
        self.at = at
        self.after = after
        self.conversation = conversation
        self.batch = batch

    def made(self):
        """Tokens that a phone makes for it. The one that its stop word is found in is one more than is shown."""
        return self.answer + (1 if self.ends_by == "stop" else 0)

    def bytes(self, port):
        """What goes over the wire, to whichever contender."""
        head = [f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}", "Content-Type: application/json",
                f"Content-Length: {len(self.body)}", "Connection: close"]
        if self.batch:
            head.append("X-Priority: batch")
        if self.conversation is not None:
            head.append(f"X-Conversation: {self.conversation}")
        return "\r\n".join([*head, "", ""]).encode() + self.body


def text_of(tokens):
    """A simulated phone's answer."""
    return "".join(f" {n}" for n in range(1, tokens + 1))


def tokens(chance, median, sigma, most):
    return int(min(most, max(4, median * math.exp(sigma * chance.gauss(0, 1)))))


class Author:
    """Writes requests as people might; the distributions are those of tests/bench/fleet/workload.cpp."""

    def __init__(self, seed):
        self.chance = random.Random(f"author {seed}")
        self.systems = [self.text(tokens(self.chance, 80, 0.8, 400)) for _ in range(APPLICATIONS)]

    def text(self, length):
        """Words of three letters: with the blank each is one token of a simulated phone."""
        return "".join("".join(self.chance.choices("abcdefghijklmnopqrstuvwxyz", k=3)) + " " for _ in range(length))

    def system(self):
        """The k-th application is asked a k-th as often as the first."""
        return self.chance.choices(self.systems, [1 / k for k in range(1, APPLICATIONS + 1)])[0]

    def length(self):
        """Of an answer, and the limit that three in ten clients set, half of them too low."""
        answer = tokens(self.chance, 120, 0.6, LONGEST_ANSWER)
        limit = self.chance.choice((256, 512)) if self.chance.random() < 0.3 else None
        return (limit, limit) if limit and answer >= limit else (answer, limit)

    def request(self, messages, at, length=None, **more):
        """Nobody but the phone knows how long the answer gets: it ends at a stop word, the number behind the last."""
        answer, limit = length or self.length()
        body = {"model": MODEL, "messages": messages, "stream": True, "stop": [f" {answer + 1}"]}
        if limit:
            body["max_tokens"] = limit
        return Request(json.dumps(body).encode(), answer, "length" if answer == limit else "stop", at, **more)

    def opening(self, system=None):
        return [{"role": "system", "content": system or self.system()},
                {"role": "user", "content": self.text(tokens(self.chance, 60, 0.8, 800))}]

    def conversation(self, at, number):
        messages = self.opening()
        turns = [self.request(messages, at, conversation=number)]
        for _ in range(1, TURNS):
            messages = [*messages, {"role": "assistant", "content": text_of(turns[-1].answer)},
                        {"role": "user", "content": self.text(tokens(self.chance, 40, 0.8, 800))}]
            think = min(180.0, max(3.0, 20 * math.exp(0.7 * self.chance.gauss(0, 1))))
            turns.append(self.request(messages, think, after=turns[-1], conversation=number))
        return turns


@functools.lru_cache(maxsize=None)
def means():
    """Tokens of a usual prompt and of a usual answer."""
    author, drawn = Author("means"), 2000
    prompts = sum(len(message["content"]) for _ in range(drawn) for message in author.opening())
    return prompts / CHARACTERS_A_TOKEN / drawn, sum(author.length()[0] for _ in range(drawn)) / drawn


class Workload:
    def __init__(self, name, title, requests, counted_from=0.0, kills=()):
        self.name = name
        self.title = title
        self.requests = requests
        self.counted_from = counted_from  # requests that come earlier are asked, but do not count
        self.kills = kills  # when, and which phone


def warm_up(phones, seed):
    """So much is learned before anything counts: everybody gets it, and only ours makes something of it."""
    author = Author(f"warm {seed}")
    many = WARM_UP * sum(phone.permits for phone in phones)
    return Workload("warm-up", "", [author.request(author.opening(), 0.0, (WARM_UP_ANSWER, None))
                                    for _ in range(many)])


def make_workload(name, phones, seed, batch, arrivals):
    """`name`: as in live.WORKLOADS; `batch`: how many; `arrivals`: for how many seconds requests come."""
    name, _, trouble = name.partition("-")
    author = Author(f"{name} {seed}")
    most = sum(phone.capacity(*means()) * (phone.later if trouble == "later" else 1) for phone in phones)
    chance = author.chance
    if name == "batch":
        system = author.systems[0]
        return Workload(name, f"{batch} questions at once, one system prompt",
                        [author.request(author.opening(system), 0.0, batch=True) for _ in range(batch)])

    def times(rate):
        at = chance.expovariate(rate)
        while at < arrivals:
            yield at
            at += chance.expovariate(rate)

    if name == "poisson":
        requests = [author.request(author.opening(), at) for at in times(0.8 * most)]
        kills = [(k * KILLS_EVERY_S + chance.uniform(0, KILLS_EVERY_S - KILLED_FOR_S), chance.randrange(len(phones)))
                 for k in range(int(arrivals / KILLS_EVERY_S))]
        return Workload(name, f"questions as they come for {arrivals:g} s, at 80 % of what the fleet can do", requests,
                        arrivals / 6, kills if trouble == "failing" else ())
    if name == "conversations":
        share = CONVERSING["overloaded" if trouble else ""]
        begun = enumerate(times(share * most / TURNS))
        turns = [turn for number, at in begun for turn in author.conversation(at, number)]
        return Workload(name, f"conversations of {TURNS} turns, which begin for {arrivals:g} s, {share:.0%}", turns, arrivals / 6)
    raise ValueError(f"no workload is called {name}")
