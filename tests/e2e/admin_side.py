"""How tests speak to the admin API, as its operator: the one place for the key."""
import hashlib
import json
import urllib.parse

from client import request

KEY = "pf_the_operators_key_in_tests"
NETWORKS = ["127.0.0.0/8", "10.0.0.0/8", "192.168.0.0/16"]  # simulated phones are on this machine


def with_operator(started):
    """The same, whose gateways know the operator's key."""
    file = started.folder / "operator.json"
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    file.write_text(json.dumps({"keys": [{"name": "operator", "sha256": digest, "role": "admin"}]}))
    file.chmod(0o600)
    plain = started.gateway

    def gateway(phones, settings=None, **more):
        return plain(phones, {"api_keys_file": str(file), "phone_networks": NETWORKS, **(settings or {})}, **more)

    started.gateway = gateway
    return started


def ask(gateway, method, path, body=None, key=KEY):
    """A request below /admin/."""
    return request(gateway.port, method, "/admin/" + path, body, {"Authorization": "Bearer " + key} if key else None)


def admin(gateway, method, path, body=None, status=200):
    """The JSON of an answer that must have this status."""
    reply = ask(gateway, method, path, body)
    assert (reply.status, reply.headers["Content-Type"]) == (status, "application/json"), reply
    return reply.json()


def refused(gateway, method, path, body, status):
    answer = admin(gateway, method, path, body, status)
    assert isinstance(answer["error"], str) and answer["error"], answer
    return answer["error"]


def path_to(name, what=""):
    return "phones/" + urllib.parse.quote(name, safe="") + what


def listed(gateway):
    return {p["name"]: p for p in admin(gateway, "GET", "phones")["phones"]}
