"""How tests speak to the admin API, as its operator: the one place for the key."""
import functools
import hashlib
import json
import urllib.parse

from client import request

KEY = "pf_of_the_operator_of_the_gateways_under_test"


def with_admins_key(start, folder):
    """`start`, whose gateways take KEY from an admin; asking needs none."""
    file = folder / "admins.json"
    file.write_text(json.dumps({"keys": [{"name": "operator", "role": "admin",
                                          "sha256": hashlib.sha256(KEY.encode()).hexdigest()}]}))
    file.chmod(0o600)
    plain = start.gateway

    @functools.wraps(plain)
    def gateway(phones, settings=None, **more):
        return plain(phones, {"api_keys_file": str(file), **(settings or {})}, **more)

    start.gateway = gateway
    return start


def ask(gateway, method, path, body=None):
    """A request below /admin/."""
    return request(gateway.port, method, "/admin/" + path, body, {"Authorization": "Bearer " + KEY})


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
