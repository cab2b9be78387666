"""How tests speak to the admin API, as its operator: the one place for the key."""
import urllib.parse

from client import request

KEY = ""  # an admin key of the gateways under test


def ask(gateway, method, path, body=None):
    """A request below /admin/."""
    return request(gateway.port, method, "/admin/" + path, body, {"Authorization": "Bearer " + KEY} if KEY else None)


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
