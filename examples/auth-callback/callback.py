"""An example of the service that Cube asks about each request, in Python.

Copy it, and put your own users where the file of keys is. It needs nothing but
Python's standard library, and reads the same file as the example in Go. What no
rule allows is refused.
"""

import argparse
import hashlib
import hmac
import json
import re
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# Names for rules that many keys share.
ROLES = {
    "full": ["* /**"],
    "read-only": ["GET,HEAD /**"],
}
TOLERANCE = 60  # seconds that a signature may be old, and the clocks may differ
FIELDS = {"key": str, "sha256": str, "subject": str, "team": str, "scopes": list, "role": str, "allow": list}
ANSWER = {"subject": "X-Auth-Subject", "team": "X-Auth-Team", "scopes": "X-Auth-Scopes"}


def parse_rule(text):
    """Reads "GET,HEAD /templates/*" into its methods and segments."""
    rule = re.fullmatch(r"(\*|[A-Z]+(?:,[A-Z]+)*) /((?:(?:\*|[^*\s/]+)/)*(?:\*\*?|[^*\s/]*))", text)
    if rule is None:
        raise ValueError(f'write the rule {text!r} as "METHOD,METHOD /path", such as "GET,HEAD /templates/*" or "* /sandboxes/**"')
    return rule[1].split(","), rule[2].split("/")


def allows(rule, method, path):
    """Tells whether a rule allows the method on the path. Always check both: GET
    and DELETE of /templates/x are not the same thing. The path is as the client
    sent it, still escaped, so that a slash in a name is no end of a segment."""
    methods, pattern = rule
    if method not in methods and "*" not in methods:
        return False
    segments = path.removeprefix("/").split("/")
    if pattern[-1] == "**":  # one segment or more
        pattern = pattern[:-1] + ["*"] * max(1, len(segments) - len(pattern) + 1)
    return len(pattern) == len(segments) and all(p in ("*", s) for p, s in zip(pattern, segments))


def read_keys(name):
    """Reads the file. What could be meant in two ways is an error."""
    with open(name, encoding="utf-8") as file:
        content = json.load(file)
    if not isinstance(content, dict) or set(content) != {"keys"} or not isinstance(content["keys"], list):
        raise ValueError('write one JSON object with "keys" alone')
    if not content["keys"]:
        raise ValueError("there is no key in it")
    keys = {}
    for number, entry in enumerate(content["keys"], 1):
        try:
            digest, key = prepare(entry)
            if digest in keys:
                raise ValueError("it stands there twice")
        except (AttributeError, TypeError, ValueError) as error:  # the first two: of another type
            raise ValueError(f"key {number}: {error}") from None
        keys[digest] = key
    return list(keys.items())


def prepare(entry):
    """Checks a key as it was read, and makes of it what is compared."""
    for field, value in entry.items():
        if field not in FIELDS or not isinstance(value, FIELDS[field]):
            raise ValueError(f"{field!r} is no field, or of another type")
    if bool(entry.get("key")) == bool(entry.get("sha256")):
        raise ValueError('write "key" or "sha256", one of the two')
    digest = entry.get("sha256", "").lower() or hashlib.sha256(entry["key"].encode()).hexdigest()
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise ValueError('"sha256" is not 64 hexadecimal digits')
    if ("role" in entry) == ("allow" in entry):
        raise ValueError('write "role" or "allow", one of the two')
    if "role" in entry and entry["role"] not in ROLES:
        raise ValueError(f"there is no role {entry['role']!r}")
    names = {"subject": [entry.get("subject", "")], "team": [entry.get("team", "")], "scopes": entry.get("scopes", [])}
    for name in sum(names.values(), []):
        if not re.fullmatch("[!-~]*", name):
            raise ValueError(f"{name!r} holds what Cube takes in no name: write ASCII without blanks")
    return digest, {
        "rules": [parse_rule(text) for text in entry.get("allow") or ROLES.get(entry.get("role"), [])],
        "answer": {ANSWER[field]: " ".join(values) for field, values in names.items() if any(values)},
    }


def signed(key, headers, now):
    """Tells whether the question comes from who has the key: Cube, with
    --auth-callback-signing-key-file. What is signed are seven lines."""
    credentials = [(name, headers[name]) for name in headers if name.lower() in ("authorization", "x-api-key")]
    if len(credentials) != 1:
        return False  # with two, the one that is looked at may be another than the signed one
    timestamp = headers.get("X-Cube-Timestamp", "")
    lines = ["v1", timestamp, *(headers.get(name, "") for name in ("X-Request-Method", "X-Request-Path", "X-Request-Id"))]
    lines += [credentials[0][0].lower(), credentials[0][1]]
    text = "".join(line + "\n" for line in lines)
    want = "v1=" + hmac.new(key, text.encode("latin-1"), hashlib.sha256).hexdigest()
    return (
        re.fullmatch("[0-9]{1,12}", timestamp) is not None
        and abs(now - int(timestamp)) <= TOLERANCE
        and hmac.compare_digest(want.encode(), headers.get("X-Cube-Signature", "").encode("latin-1"))
    )


def read_signing_key(name):
    """Reads the file that Cube reads too; no name means no key."""
    if not name:
        return None
    with open(name, "rb") as file:
        key = file.read().strip()
    if len(key) < 16:
        raise ValueError("the signing key has less than 16 bytes")
    return key


class Verify(BaseHTTPRequestHandler):
    """Answers POST /verify: 200 is yes, all else is no. With a signing key, only to
    Cube."""

    protocol_version = "HTTP/1.1"  # Cube keeps its connections
    timeout = 120  # seconds until an idle one is closed
    keys = []
    signing_key = None

    def do_POST(self):
        method, path = self.headers.get("X-Request-Method"), self.headers.get("X-Request-Path")
        if self.path != "/verify" or not method or not path or self.has_body():
            self.close_connection = True  # what may follow is no request
            return self.answer(400)
        if self.signing_key is not None and not signed(self.signing_key, self.headers, time.time()):
            return self.answer(401)
        key = self.find(self.credential())
        if key is None:
            return self.answer(401)
        if not any(allows(rule, method, path) for rule in key["rules"]):
            return self.answer(403)
        # Whose key it is: Cube keeps tenants apart by it, counts quotas by it,
        # and writes it into the audit log.
        return self.answer(200, key["answer"])

    def has_body(self):
        return self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers

    def credential(self):
        """What the client sent. Cube passes on one of the two headers."""
        authorization = self.headers.get("Authorization", "")
        if authorization.startswith("Bearer "):
            return authorization.removeprefix("Bearer ")
        return self.headers.get("X-API-Key", "")

    def find(self, credential):
        """Returns the key of a credential, None if there is none."""
        digest = hashlib.sha256(credential.encode("latin-1")).hexdigest()
        found = None
        for known, key in self.keys:  # all of them: how long it takes tells nothing
            if hmac.compare_digest(known, digest):
                found = key
        return found

    def answer(self, status, headers=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format, *args):
        """Requests are not logged: Cube's audit log has them."""


class Server(ThreadingHTTPServer):
    request_queue_size = 128


def read(how, name):
    """Reads a file, or ends the program with what is wrong in it."""
    try:
        return how(name)
    except (OSError, ValueError) as error:
        sys.exit(f"callback.py: {name}: {error}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:9000", help="address and port to listen on")
    parser.add_argument("--keys", default="keys.json", help="file of keys; see the README beside this program")
    parser.add_argument("--signing-key-file", help="file of the key with which Cube signs; without one, signatures are not looked at")
    options = parser.parse_args()
    Verify.keys = read(read_keys, options.keys)
    Verify.signing_key = read(read_signing_key, options.signing_key_file)
    host, _, port = options.listen.rpartition(":")
    server = Server((host, int(port)), Verify)
    print(f"http://{host}:{server.server_port}/verify", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
