"""monitoring/: rules and board fit the program's metrics, and an alert reaches whoever looks at a real Prometheus."""
import json
import re
import subprocess

import pytest

import engines
from client import request
from engines import Prometheus
from harness import ROOT, Sim, until

FOLDER = ROOT / "monitoring"
TOKEN = "0123456789abcdef-token"
# Of a gateway with a certificate only, and the one metric that is Prometheus' own.
ELSEWHERE = {"pocketfleet_tls_certificate_expiry_timestamp_seconds", "up"}


@pytest.fixture(scope="module")
def programs():
    return engines.unpacked("prometheus")


def promtool(programs, *arguments):
    done = subprocess.run([programs / "promtool", *arguments], capture_output=True, text=True, timeout=60, cwd=FOLDER)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def alerts():
    return re.findall(r"^ +- alert: (\w+)$", (FOLDER / "rules.yml").read_text(), re.M)


# ---- the files


def test_rules_are_sound(programs):
    assert "SUCCESS" in promtool(programs, "check", "rules", "rules.yml")


def test_rules_do_what_they_say(programs):
    assert "SUCCESS" in promtool(programs, "test", "rules", "rules_test.yml")


def test_every_alert_is_tested_and_explained():
    tests = (FOLDER / "rules_test.yml").read_text()
    fired = set(re.findall(r"alertname: (\w+)\n +exp_alerts:\n +- exp_labels", tests))
    page = (ROOT / "docs" / "operations.md").read_text()
    explained = re.findall(r"^\| `(Pocketfleet\w+)` \|", page, re.M)
    assert fired == set(alerts())
    assert explained == alerts(), "docs/operations.md has a row for each, in the same order"


def test_the_example_is_sound(programs, tmp_path):
    key = tmp_path / "key"
    key.write_text("0123456789abcdef")
    text = (FOLDER / "prometheus.example.yml").read_text()
    assert "credentials_file: /etc/prometheus/pocketfleet.key" in text
    (tmp_path / "prometheus.yml").write_text(text.replace("/etc/prometheus/pocketfleet.key", str(key)))
    (tmp_path / "rules.yml").write_text((FOLDER / "rules.yml").read_text())
    promtool(programs, "check", "config", str(tmp_path / "prometheus.yml"))


def test_the_board_is_laid_out():
    """Nothing lies on something else, and nothing has the number of something else."""
    panels = json.loads((FOLDER / "grafana.json").read_text())["panels"]
    assert len({p["id"] for p in panels}) == len({p["title"] for p in panels}) == len(panels)
    taken = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or all(t["expr"] for t in panel["targets"])


# ---- with the program


class Fleet:
    """Two phones, each a process of its own, and a gateway that has had something of everything to count."""

    def __init__(self, start, folder):
        (folder / "token").write_text(TOKEN)
        (folder / "token").chmod(0o600)
        self.sims = [start.own(Sim(1, decode_rate=500, answer_tokens=20, model="tiny")) for _ in range(2)]
        self.phones = [sim.phones[0] for sim in self.sims]
        entries = [p.entry(id=f"pf-{i}") for i, p in enumerate(self.phones)]
        self.gateway = start.gateway(entries, {
            "registration": "known", "fleet_token_file": str(folder / "token"), "phone_networks": ["127.0.0.0/8"],
            "cache": "never", "connect_timeout_s": 1})

    def exercise(self):
        for fault, counted in (("reset_after", "pocketfleet_rescues_total"), ("error_500", "pocketfleet_retries_total")):
            self.phones[0].fault(fault, after_tokens=10, times=1)
            until(lambda: self.gateway.ask_stream(tokens=40).finish()
                  and any(name == counted for name, _ in self.gateway.metrics()), counted)
        body = {"id": "pf-0", "boot_id": None, "seq": 1, "name": None, "interval_s": 60, "uptime_s": None,
                "engine": {"kind": "ollama", "version": None, "port": self.phones[0].port, "up": True, "models": ["tiny"]},
                "tunnel_port": None,
                "battery": {"temperature_c": 30, "level": 80, "charging": True, "current_ua": None},
                "memory": {"total_kb": 8000000, "available_kb": 3000000}, "wifi": {"rssi_dbm": None, "link_mbps": None}}
        reply = request(self.gateway.port, "POST", "/fleet/heartbeat", body, {"Authorization": f"Bearer {TOKEN}"})
        assert reply.status == 200, reply


@pytest.fixture(scope="module")
def fleet(start_once, tmp_path_factory):
    fleet = Fleet(start_once, tmp_path_factory.mktemp("fleet"))
    fleet.exercise()
    return fleet


@pytest.fixture(scope="module")
def prometheus(start_once, fleet, programs, tmp_path_factory):
    """With the rules; their minutes of patience are left out."""
    folder = tmp_path_factory.mktemp("prometheus")
    rules = folder / "rules.yml"
    rules.write_text(re.sub(r"^( +for:) \w+$", r"\1 1s", (FOLDER / "rules.yml").read_text(), flags=re.M))
    prometheus = start_once.own(Prometheus(programs, folder, fleet.gateway.port, rules=rules))
    until(lambda: prometheus.query('up{job="pocketfleet"} == 1'), "the gateway to be scraped")
    return prometheus


def expressions_of_the_board():
    board = json.loads((FOLDER / "grafana.json").read_text())
    return [t["expr"].replace("$instance", ".*") for p in board["panels"] for t in p.get("targets", [])]


def rules_of(prometheus):
    return [rule for group in prometheus.api("rules")["groups"] for rule in group["rules"]]


def metrics_in(expression):
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\b(?:by|on|without|ignoring) *\([^)]*\)", "", bare)
    return set(re.findall(r"\b(?:up|(?:\w+:)?(?:pocketfleet|process)_[\w:]+)\b", bare))


def test_every_metric_is_one_of_the_programs(fleet, prometheus):
    page = request(fleet.gateway.port, "GET", "/metrics").text()
    there = dict(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.M))
    there |= {f"{name}_bucket": kind for name, kind in there.items() if kind == "histogram"}
    rules = rules_of(prometheus)
    recorded = {rule["name"] for rule in rules if rule["type"] == "recording"}
    named = set().union(*(metrics_in(e) for e in [r["query"] for r in rules] + expressions_of_the_board()))
    assert len(named) > 30
    assert named - set(there) - recorded <= ELSEWHERE
    assert recorded - named == set(), "recorded, and nobody looks at it"
    mentioned = {m for m in re.findall(r"pocketfleet_\w+", (ROOT / "docs" / "api.md").read_text())}
    assert {n for n in there if n.startswith("pocketfleet_") and not n.endswith("_bucket")} <= mentioned


def test_every_expression_of_the_board_is_good(fleet, prometheus):
    for expression in expressions_of_the_board():
        prometheus.query(expression)
    until(lambda: all(rule["health"] == "ok" for rule in rules_of(prometheus)), "each rule to be evaluated")
    series = {labels["phone"]: value for labels, value in prometheus.query("pocketfleet_phone_rescuers")}
    assert series == {p.name: 1.0 for p in fleet.phones}, "each can stand in for the other"


def firing(prometheus):
    return {(a["labels"]["alertname"], a["labels"].get("phone")) for a in prometheus.api("alerts")["alerts"]
            if a["state"] == "firing"}


def test_a_killed_phone_is_an_alert(fleet, prometheus):
    dead, well = fleet.phones
    assert not {name for name, _ in firing(prometheus)} & {"PocketfleetPhoneDown", "PocketfleetNoPhone"}
    fleet.sims[0].kill()
    until(lambda: ("PocketfleetPhoneDown", dead.name) in firing(prometheus), "the alert", bound=40)
    until(lambda: ("PocketfleetNoRescueTarget", well.name) in firing(prometheus), "the other one's")
    now = firing(prometheus)
    assert ("PocketfleetPhoneDown", well.name) not in now
    assert ("PocketfleetNoPhone", None) not in now
    text = next(a["annotations"]["summary"] for a in prometheus.api("alerts")["alerts"]
                if a["labels"]["alertname"] == "PocketfleetPhoneDown")
    assert text == f"The phone {dead.name} gets no requests."
    fleet.sims[1].kill()
    until(lambda: ("PocketfleetNoPhone", None) in firing(prometheus), "the worst of them", bound=40)
