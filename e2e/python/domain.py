"""With E2B_DOMAIN and nothing else: the API, the agent, signed links, hosts."""

import re
import urllib.request

from e2b import Sandbox

sandbox = Sandbox.create()
try:
    assert sandbox.commands.run("echo here").stdout == "here\n"
    sandbox.files.write("/home/user/a.txt", "by a link")
    with urllib.request.urlopen(sandbox.download_url("/home/user/a.txt")) as answer:
        assert answer.read() == b"by a link"
    assert re.fullmatch(r"8000-i[a-z0-9]{20}\.cube\.test:8443", sandbox.get_host(8000))
finally:
    sandbox.kill()
print("one variable is enough")
