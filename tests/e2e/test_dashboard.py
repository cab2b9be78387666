"""The dashboard in a real browser. Needs chromium, and playwright-core and axe-core from npm: see browser/browser.py."""
import json
import pathlib
import re
import subprocess
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent / "browser"))

from browser import Browser  # noqa: E402
from client import request  # noqa: E402
from harness import program, sanitized, until  # noqa: E402
from showroom import PHONES, TOKEN, Showroom  # noqa: E402

KILLED = 6.0  # seconds within which a phone that was killed is red


@pytest.fixture(scope="module")
def chrome(start_once, tmp_path_factory):
    return start_once.own(Browser(tmp_path_factory.mktemp("browser")))


class Page:
    """The dashboard in the browser, and what may be asked of it."""

    def __init__(self, chrome, gateway):
        self.chrome, self.gateway = chrome, gateway

    def open(self, state="Live", **how):
        self.opened = self.do("open", url=self.gateway.url, **how)
        self.until_text("#connection", state)
        return self

    def do(self, command, **how):
        return self.chrome.do(command, **how)

    def text(self, at):
        return self.do("text", at=at)

    def number(self, at):
        return float(re.sub(r"[^\d.]", "", self.text(at)) or "nan")

    def until_text(self, at, pattern, bound=20):
        return until(lambda: re.search(pattern, self.text(at)), f"{pattern!r} at {at}", bound, 0.05)

    def focused(self):
        return self.do("value", script="document.activeElement.id")

    def row(self, name):
        return f'tr[data-phone="{name}"]'

    def group(self, name):
        return self.do("attribute", at=self.row(name), name="data-group")

    def silent(self, allowed=()):
        """Nothing was complained of, and no request has left the origin."""
        noise = self.do("noise")
        console = [line for line in noise["console"] if not any(re.search(a, line) for a in allowed)]
        assert not console and not noise["errors"] and not noise["violations"], noise
        assert noise["requests"]
        for sent in noise["requests"]:
            assert sent.split()[1].startswith(self.gateway.url + "/"), sent


@pytest.fixture
def page_of(chrome):
    pages = []

    def make(gateway, allowed=(), **how):
        pages.append((Page(chrome, gateway), allowed))
        return pages[-1][0].open(**how)
    yield make
    for page, allowed in pages:
        page.silent(allowed)


LOST = (r"Failed to load resource: .*events", r"ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_EMPTY_RESPONSE")


@pytest.fixture
def pair(start):
    """Two phones, slow enough to be watched."""
    phones = [start.sim(1, engine, decode_rate=20, answer_tokens=400)[0] for engine in ("ollama", "llama-server")]
    gateway = start.gateway([p.entry(name=n) for p, n in zip(phones, ("one", "two"))], {"cache": "never"})
    gateway.sims = dict(zip(("one", "two"), start.processes[-3:-1]))
    return gateway


# ---- what it shows


def test_numbers_move_while_a_prompt_streams(pair, page_of):
    page = page_of(pair)
    assert "default-src 'none'" in page.opened["headers"]["content-security-policy"]
    assert page.number("#healthy") == 2 and page.text("#of-phones") == "of 2 healthy"
    assert page.number("#tokens") == 0 and page.number("#running") == 0
    stream = pair.ask_stream(tokens=200).begun()
    until(lambda: page.number("#running") == 1, "one running")
    until(lambda: page.number("#tokens") > 5, "tokens per second")
    name, = [n for n in ("one", "two") if page.text(f"{page.row(n)} .running .number") == "1 of 1"]
    until(lambda: page.number(f"{page.row(name)} .tokens .number") > 5, "its tokens per second")
    lines = {page.do("attribute", at=f"{page.row(name)} .spark .line", name="d")}
    until(lambda: len(lines.add(page.do("attribute", at=f"{page.row(name)} .spark .line", name="d")) or lines) > 2,
          "a line that moves")
    stream.abort()
    until(lambda: page.number("#running") == 0 and page.number("#tokens") == 0, "rest")
    pair.ask(tokens=3)
    until(lambda: page.number("#requests") == 2, "its count")
    pair.ask(tokens=8)
    until(lambda: re.search(r"can \d+\.\d", "".join(page.text(f"{page.row(n)} .tokens .under") for n in ("one", "two"))),
          "what one of them can")
    assert re.search(r"\d+ ms", page.text(f"{page.row('one')} .first") + page.text(f"{page.row('two')} .first"))


def test_a_killed_phone_turns_red_within_seconds_and_comes_back(start, pair, page_of):
    page = page_of(pair)
    assert page.group("one") == "healthy"
    ok = page.do("value", script="getComputedStyle(document.querySelector('.condition'), '::before').backgroundColor")
    pair.sims["one"].kill()
    began = time.monotonic()
    until(lambda: page.group("one") == "down", "red", KILLED)
    assert time.monotonic() - began < KILLED
    assert page.text(f"{page.row('one')} .condition") == "Down"
    assert page.text(f"{page.row('one')} .state .under")
    red = page.do("value", script="getComputedStyle(document.querySelector('[data-group=down] .condition'), '::before').backgroundColor")
    r, g, b = map(int, re.findall(r"\d+", red)[:3])
    assert red != ok and r > 2 * max(g, b), red
    assert page.number("#healthy") == 1
    page.until_text("#states-note", "1 down")
    page.until_text("#lately", "one down")
    assert page.group("two") == "healthy"


def test_everything_known_of_a_phone(start, tmp_path, page_of):
    room = Showroom(start, tmp_path)
    page = page_of(room.gateway)
    until(lambda: page.do("count", at="#rows tr") == len(PHONES), "all phones")
    assert page.text(f"{page.row('pixel-8')} .warmth .number") == "34.1 °C"
    assert page.text(f"{page.row('pixel-8')} .battery .number").strip() == "81 %"
    assert page.text(f"{page.row('moto-g84')} .warmth .number") == "–", "unknown is not 0"
    assert page.text(f"{page.row('galaxy-s10')} .condition") == "Resting"
    assert page.text(f"{page.row('redmi-note-12')} .condition") == "Spared"
    page.do("click", at=f"{page.row('pixel-8')} button")
    facts = page.do("value", script="document.getElementById('details-facts').innerText")
    assert "Members" not in facts, "it is no group"
    assert re.search(r"Learned speed\s*–\s*Reads prompts\s*–", facts), "it has answered nothing yet"
    for said in ("127.0.0.1:", "ollama", "qwen2.5:1.5b", "0 of 2 permits", "closed", "34.1 °C", "81 %, charging", "GiB free", "-51 dBm"):
        assert said in facts.replace("−", "-"), (said, facts)
    page.do("press", keys="Escape")
    assert not page.do("visible", at="#details")
    # By heat: the hottest first.
    page.do("click", at='#columns th[data-key="warmth"] button')
    until(lambda: page.do("texts", at="#rows .open")[0] == "galaxy-s10", "the hottest first")
    assert page.do("attribute", at='#columns th[data-key="warmth"]', name="aria-sort") == "ascending"
    # Only some.
    page.do("fill", at="#find", text="gemma PIXEL")
    assert page.do("value", script="[...document.querySelectorAll('#rows tr:not([hidden])')].map(r => r.dataset.phone)") == ["pixel-8-pro"]
    page.do("fill", at="#find", text="nothing like it")
    assert page.text("#empty") == "No phone is like that."
    page.do("fill", at="#find", text="")
    page.do("click", at="#groups .chip.wary")
    shown = page.do("value", script="[...document.querySelectorAll('#rows tr:not([hidden])')].map(r => r.dataset.phone)")
    assert sorted(shown) == ["galaxy-s10", "redmi-note-12"]


# ---- what it does


def test_each_member_of_a_group_is_told(start, tmp_path, page_of):
    master, = start.sim(1, "llama-server")
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n")
    token.chmod(0o600)
    members = [{"name": "galaxy", "host": "10.9.9.2", "id": "pf-a"}, {"name": "pixel", "host": "10.9.9.3"}]
    gateway = start.gateway([master.entry(name="big", group={"members": members})],
                            {"registration": "known", "fleet_token_file": str(token)})
    said = {"id": "pf-a", "interval_s": 600, "battery": {"temperature_c": 40.5, "level": 81, "charging": True}}
    reply = request(gateway.port, "POST", "/fleet/heartbeat", json.dumps(said), {"Authorization": f"Bearer {TOKEN}"})
    assert reply.status == 200, reply
    page = page_of(gateway)
    page.do("click", at=page.row("big") + " button")
    page.until_text("#details-facts", r"galaxy: 40\.5.°C, 81.%")
    assert "pixel: –" in page.text("#details-facts")


def test_a_prompt_streams_and_is_stopped(pair, page_of):
    page = page_of(pair)
    page.do("fill", at="#question", text="Count, please.")
    page.do("fill", at="#most", text="12")
    assert not page.do("enabled", at="#stop")
    page.do("click", at="#send")
    seen = {until(lambda: page.text("#answer"), "a first token")}
    until(lambda: seen.add(page.text("#answer")) or page.text("#answer-note").startswith(("one", "two")), "the end", step=0.02)
    assert page.text("#answer").split() == [str(i) for i in range(1, 13)]
    assert len(seen) > 3, "piece by piece"
    assert re.search(r"^(one|two), 12 tokens, [\d.]+ tokens/s, first after", page.text("#answer-note"))
    page.do("fill", at="#most", text="")
    page.do("click", at="#send")
    until(lambda: "5" in page.text("#answer").split(), "some tokens")
    page.do("click", at="#stop")
    page.until_text("#answer-note", "Stopped")
    pair.idle()
    assert page.do("enabled", at="#send") and not page.do("enabled", at="#stop")


def test_a_model_is_chosen(start, page_of):
    phones = [start.sim(1, model=m)[0] for m in ("alpha", "beta")]
    page = page_of(start.gateway([p.entry(name=p.entry()["name"]) for p in phones]))
    until(lambda: page.do("count", at="#model option") == 3, "the models")
    page.do("choose", at="#model", value="beta")
    page.do("fill", at="#question", text="hello")
    page.do("click", at="#send")
    page.until_text("#answer-note", "tokens")
    assert json.loads(phones[1].last()["body"])["model"] == "beta"


def test_by_keyboard_alone(pair, page_of):
    page = page_of(pair)
    page.do("press", keys="Tab")
    assert page.do("value", script="document.activeElement.className") == "skip"
    assert page.do("value", script="document.activeElement.getBoundingClientRect().top") >= 0, "seen when it has the focus"
    page.do("press", keys="Enter")
    page.do("press", keys="Tab") if page.focused() != "question" else None
    for _ in range(10):
        if page.focused() == "question":
            break
        page.do("press", keys="Tab")
    assert page.focused() == "question"
    outline = page.do("value", script="getComputedStyle(document.activeElement).outlineStyle + getComputedStyle(document.activeElement).outlineWidth")
    assert outline == "solid3px", "the focus is seen"
    page.do("type", text="Count")
    page.do("press", keys="Shift+Enter")
    page.do("type", text="to a hundred.")
    assert page.do("value", script="document.activeElement.value") == "Count\nto a hundred."
    page.do("press", keys="Enter")
    until(lambda: "3" in page.text("#answer").split(), "an answer")
    for _ in range(6):
        page.do("press", keys="Tab")
        if page.focused() == "stop":
            break
    assert page.focused() == "stop"
    page.do("press", keys="Enter")
    page.until_text("#answer-note", "Stopped")
    assert page.focused() == "question", "not lost with the button"
    # A phone's details and back, without a mouse.
    for _ in range(40):
        page.do("press", keys="Tab")
        if page.do("value", script="document.activeElement.className") == "open":
            break
    page.do("press", keys="Enter")
    assert page.do("visible", at="#details")
    page.do("press", keys="Escape")
    assert not page.do("visible", at="#details")
    assert page.do("value", script="document.activeElement.className") == "open", "back where it was"


def admin_key(folder):
    """Settings for a gateway that wants keys of its clients too, and an admin's key."""
    file = folder / "keys.json"

    def new(name, *options):
        return subprocess.run([program(), "key", "new", "--file", file, "--name", name, *options], capture_output=True,
                              text=True, timeout=60, check=True).stdout.strip()
    new("somebody")
    return {"api_keys_file": str(file)}, new("admin", "--admin")


def test_drain_and_undrain(start, tmp_path, page_of):
    settings, key = admin_key(tmp_path)
    phones = [start.sim(1)[0].entry(name=name) for name in ("one", "two")]
    gateway = start.gateway(phones, {"cache": "never", **settings}, key=key)
    if request(gateway.port, "GET", "/admin/phones", headers={"X-API-Key": key}).status == 404:
        pytest.skip("this build has no admin API")
    page = page_of(gateway, allowed=(r"status of 401",), state="A key is needed")
    page.do("fill", at="#key-field", text=key)
    page.do("press", keys="Enter")
    page.until_text("#connection", "Live")
    page.do("click", at=f"{page.row('one')} button")
    page.do("click", at="#drain")
    page.until_text("#details-state", "Drained")
    assert page.text("#drain") == "Put back into service"
    assert page.group("one") == "out" and page.number("#healthy") == 1
    for _ in range(4):
        assert gateway.ask(tokens=1, headers=gateway.headers).notes()["phone"] == "two"
    page.do("click", at="#drain")
    page.until_text("#details-state", "Healthy")
    until(lambda: gateway.ask(tokens=1, headers=gateway.headers).notes()["phone"] == "one", "its share")


def test_a_switch_that_is_refused_says_why(pair, page_of):
    page = page_of(pair, allowed=(r"status of 40[34]",))
    page.do("click", at=f"{page.row('one')} button")
    page.do("click", at="#drain")
    if request(pair.port, "GET", "/admin/phones").status == 403:  # there is an admin API, and nobody has a key for it
        until(lambda: page.do("visible", at="#key-dialog"), "the question for a key")
        assert "admin key" in page.text("#key-why")
        page.do("click", at="#key-cancel")
    page.until_text("#details-fault", "Not done: .+")
    assert page.do("enabled", at="#drain")


def test_a_key_is_kept_in_the_tab_and_sent(pair, page_of):
    page = page_of(pair)
    page.do("click", at="#key-button")
    page.do("fill", at="#key-field", text="a-key-for-this-test")
    page.do("press", keys="Enter")
    page.until_text("#key-button", "Key: set")
    assert page.do("value", script="Object.values(sessionStorage)") == ["a-key-for-this-test"]
    assert page.do("value", script="localStorage.length") == 0 and page.do("value", script="document.cookie") == ""
    page.until_text("#connection", "Live")
    until(lambda: "/events Bearer a-key-for-this-test" in page.do("noise")["keys"], "the stream with the key")
    page.do("click", at="#key-button")
    assert page.do("value", script="document.querySelector('#key-field').value") == "", "never shown again"
    page.do("click", at="#key-forget")
    page.until_text("#key-button", "^Key$")
    assert page.do("value", script="sessionStorage.length") == 0


def test_a_gateway_that_wants_keys(start, tmp_path, page_of):
    settings, key = admin_key(tmp_path)
    gateway = start.gateway([p.entry() for p in start.sim(2)], settings, key=key)
    page = page_of(gateway, allowed=(r"status of 401",), state="A key is needed")
    until(lambda: page.do("visible", at="#key-dialog"), "the question for a key")
    assert page.focused() == "key-field"
    page.do("type", text="a-wrong-key")
    page.do("press", keys="Enter")
    until(lambda: page.do("noise")["keys"] and page.do("visible", at="#key-dialog"), "asked again")
    page.do("fill", at="#key-field", text=key)
    page.do("press", keys="Enter")
    page.until_text("#connection", "Live")
    assert page.do("count", at="#rows tr") == 2
    page.do("fill", at="#question", text="Count.")
    page.do("fill", at="#most", text="3")
    page.do("click", at="#send")
    page.until_text("#answer-note", "3 tokens")
    assert f"/ask_stream Bearer {key}" in page.do("noise")["keys"]


def test_a_switch_asks_for_an_admins_key(pair, page_of):
    guarded = {"paths": ["/admin/"], "key": "the-admins-key", "status": 403}
    page = page_of(pair, allowed=(r"status of 40[34]",), guarded=guarded)
    page.do("click", at=f"{page.row('one')} button")
    page.do("click", at="#drain")
    until(lambda: page.do("visible", at="#key-dialog"), "the question for a key")
    assert page.text("#key-why") == "A key is needed here."
    page.do("fill", at="#key-field", text="the-admins-key")
    page.do("press", keys="Enter")
    until(lambda: "/admin/phones/one/drain Bearer the-admins-key" in page.do("noise")["keys"], "asked with the key")
    until(lambda: page.do("enabled", at="#drain") and not page.do("visible", at="#key-dialog"), "an end")


# ---- when things go wrong


def test_it_goes_on_when_the_gateway_comes_back(start, page_of, tmp_path):
    phones = start.sim(2)
    first = start.gateway(phones)
    page = page_of(first, allowed=LOST)
    first.stop()
    page.until_text("#connection", "lost")
    assert page.do("value", script="document.querySelector('main').classList.contains('stale')")
    second = start.gateway(phones, listen=f"127.0.0.1:{first.port}")
    page.until_text("#connection", "Live")
    assert not page.do("value", script="document.querySelector('main').classList.contains('stale')")
    second.ask(tokens=2)
    until(lambda: page.number("#requests") == 1, "numbers of the new one")


def test_an_answer_that_breaks_off_says_so(start, page_of):
    phone, = start.sim(1, decode_rate=20)
    page = page_of(start.gateway([phone.entry(name="one")], {"rescues": 0, "attempts": 1}), allowed=LOST)
    page.do("fill", at="#question", text="Count.")
    page.do("click", at="#send")
    until(lambda: "3" in page.text("#answer").split(), "some tokens")
    start.processes[0].kill()
    page.until_text("#answer-note", "Broken off: .+")
    assert "bad" in page.do("attribute", at="#answer-note", name="class")
    assert page.do("enabled", at="#send")


def test_no_phone_at_all(start, page_of):
    phone, = start.sim(1)
    start.processes[0].kill()
    gateway = start.gateway([phone.entry(name="one")], {"probe_interval_s": 0.3}, healthy=0)
    page = page_of(gateway, allowed=(r"status of 503",))
    until(lambda: page.group("one") == "down", "down")
    page.do("fill", at="#question", text="Anybody?")
    page.do("click", at="#send")
    page.until_text("#answer-note", "Not answered: no phone is usable")


def test_what_phones_say_of_themselves_is_text(start, page_of):
    name = "<img src=x onerror=document.title='got-in'><b>phone</b>"
    phone, = start.sim(1, model="<script>document.title='got-in'</script>")
    page = page_of(start.gateway([phone.entry(name=name)]))
    until(lambda: page.text("#rows .open") == name, "its name")
    assert "<script>" in page.text("#rows .under")
    page.do("click", at="#rows .open")
    assert page.text("#details-title") == name
    assert "got-in" not in page.do("value", script="document.title")
    assert page.do("count", at="#rows img") == 0


# ---- for everybody


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width, height", [(1280, 800), (390, 844)])
def test_no_fault_for_those_who_see_or_hear_it_otherwise(start, tmp_path, page_of, scheme, width, height):
    room = Showroom(start, tmp_path, {"probe_interval_s": 0.5})
    room.sims["fairphone-5"].kill()
    page = page_of(room.gateway, scheme=scheme, width=width, height=height)
    until(lambda: page.group("fairphone-5") == "down", "one down")
    page.do("fill", at="#question", text="Count.")
    page.do("fill", at="#most", text="5")
    page.do("click", at="#send")
    page.until_text("#answer-note", "5 tokens")
    check(page, "the page")
    assert page.do("value", script="document.documentElement.scrollWidth") <= width, "nothing sticks out"
    # Down to the last phone: what is out of view is not looked at.
    page.do("size", width=width, height=3600)
    check(page, "the whole page")
    page.do("size", width=width, height=height)
    page.do("click", at=f"{page.row('galaxy-s10')} button")
    check(page, "a phone's details")
    page.do("press", keys="Escape")
    page.do("click", at="#key-button")
    check(page, "the key")
    page.do("press", keys="Escape")


def check(page, what):
    faults = [f for f in page.do("axe") if f["impact"] in ("serious", "critical")]
    assert not faults, what + "\n" + json.dumps(faults, indent=1)


def test_it_keeps_still_for_those_who_want_that(pair, page_of):
    script = """[...document.querySelectorAll('*')].filter(e => {
      const s = getComputedStyle(e);
      return s.animationName !== 'none' || s.transitionDuration.split(', ').some(t => t !== '0s'); }).length"""
    page = page_of(pair, motion="reduce")
    assert page.do("value", script=script) == 0
    page.open(motion="no-preference")
    assert page.do("value", script=script) > 0, "or the line above shows nothing"


def test_calm_with_200_phones(start, page_of):
    phones = start.sim(200, decode_rate=30, slots=1, answer_tokens=500)
    gateway = start.gateway([p.entry(name=f"phone-{i:03}") for i, p in enumerate(phones)],
                            {"probe_interval_s": 5, "cache": "never"})
    page = page_of(gateway)
    until(lambda: page.do("count", at="#rows tr") == 200, "all of them")
    assert page.number("#healthy") == 200
    streams = [gateway.ask_stream() for _ in range(100)]
    until(lambda: page.number("#running") == 100, "half of them at work")
    until(lambda: page.number("#tokens") > 100, "their tokens")
    page.do("value", script="""globalThis.testsLongTasks.length = 0; globalThis.testsFrames = 0;
      globalThis.testsRows = [...document.querySelectorAll('#rows tr')];
      const frame = () => { ++globalThis.testsFrames; requestAnimationFrame(frame); }; frame(); 0""")
    began = time.monotonic()
    seen = set()
    while time.monotonic() - began < 6:
        seen.add(page.text("#tokens"))
        time.sleep(0.2)
    seconds = time.monotonic() - began
    tasks = page.do("value", script="globalThis.testsLongTasks")
    frames = page.do("value", script="globalThis.testsFrames")
    assert len(seen) > 3, "it moves"
    assert max(tasks, default=0) < 400 and sum(tasks) < 1000 * seconds * 0.4, tasks
    assert frames > 5 * seconds, f"{frames} frames in {seconds:.1f} s"
    same = page.do("value", script="[...document.querySelectorAll('#rows tr')].every((r, i) => r === globalThis.testsRows[i])")
    assert same, "rows are changed in place, and stand still"
    names = page.do("value", script="[...document.querySelectorAll('#rows tr')].map(r => r.dataset.phone)")
    assert names == sorted(names)
    # The last of them can be found and seen.
    page.do("fill", at="#find", text="phone-199")
    assert page.do("visible", at=page.row("phone-199")) and not page.do("visible", at=page.row("phone-000"))
    for stream in streams:
        stream.abort()
    assert sanitized() or gateway.running()
