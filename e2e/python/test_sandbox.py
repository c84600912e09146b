"""The official Python SDK, unmodified, against a server whose address is in the
environment as a user would set it: E2B_API_URL, E2B_SANDBOX_URL, E2B_API_KEY."""

import os
import urllib.error
import urllib.request

import pytest
from e2b import (
    AuthenticationException,
    CommandExitException,
    FileType,
    NotFoundException,
    PtySize,
    Sandbox,
    SandboxQuery,
    TimeoutException,
)

FULL_KEY = os.environ.get("FULL_KEY")
needs_callback = pytest.mark.skipif(not FULL_KEY, reason="no callback")


@pytest.fixture(scope="module")
def sandbox():
    sandbox = Sandbox.create(timeout=900, metadata={"suite": "python"}, envs={"FROM_CREATE": "yes"})
    yield sandbox
    sandbox.kill()


def test_a_command_runs_and_returns_what_it_prints(sandbox):
    result = sandbox.commands.run("echo out; echo err >&2; whoami")
    assert (result.stdout, result.stderr, result.exit_code) == ("out\nuser\n", "err\n", 0)


def test_an_exit_code_is_an_exception(sandbox):
    with pytest.raises(CommandExitException) as caught:
        sandbox.commands.run("exit 3")
    assert caught.value.exit_code == 3


def test_output_streams(sandbox):
    lines = []
    sandbox.commands.run("for i in 1 2 3; do echo $i; done", on_stdout=lines.append)
    assert "".join(lines) == "1\n2\n3\n"


def test_environment_variables_are_layered(sandbox):
    result = sandbox.commands.run("echo $FROM_CREATE $FROM_COMMAND", envs={"FROM_COMMAND": "too"})
    assert result.stdout == "yes too\n"


def test_a_background_command_takes_input_and_is_killed(sandbox):
    command = sandbox.commands.run("read -r line; echo got $line; sleep 300", background=True, stdin=True)
    sandbox.commands.send_stdin(command.pid, "it\n")
    assert command.pid in [process.pid for process in sandbox.commands.list()]
    for stdout, _, _ in command:
        if stdout:
            assert stdout == "got it\n"
            break
    assert command.kill() is True
    with pytest.raises(CommandExitException):
        command.wait()
    assert sandbox.commands.kill(command.pid) is False


def test_a_command_ends_at_its_deadline(sandbox):
    with pytest.raises(TimeoutException):
        sandbox.commands.run("sleep 60", timeout=0.5)


def test_a_terminal(sandbox):
    terminal = sandbox.pty.create(PtySize(rows=24, cols=80))
    sandbox.pty.resize(terminal.pid, PtySize(rows=40, cols=100))
    sandbox.pty.send_stdin(terminal.pid, b"stty size; exit 7\n")
    output = []
    with pytest.raises(CommandExitException) as caught:
        terminal.wait(on_pty=output.append)
    assert caught.value.exit_code == 7
    assert b"40 100" in b"".join(output)


def test_files(sandbox):
    sandbox.files.write("notes/a.txt", "hello")
    assert sandbox.files.read("notes/a.txt") == "hello"
    info = sandbox.files.get_info("notes/a.txt")
    assert (info.owner, info.size, info.type) == ("user", 5, FileType.FILE)
    sandbox.files.rename("notes/a.txt", "notes/b.txt")
    assert [entry.name for entry in sandbox.files.list("notes")] == ["b.txt"]
    sandbox.files.remove("notes/b.txt")
    assert not sandbox.files.exists("notes/b.txt")
    with pytest.raises(NotFoundException):
        sandbox.files.read("notes/b.txt")
    assert sandbox.files.make_dir("made") is True
    assert sandbox.files.make_dir("made") is False


def test_bytes_come_back_as_they_were(sandbox):
    data = bytes(i * 7919 % 256 for i in range(1_000_000))
    sandbox.files.write("bytes", data)
    assert bytes(sandbox.files.read("bytes", format="bytes")) == data


def test_the_list_finds_it_by_its_metadata(sandbox):
    def ids(metadata):
        return [item.sandbox_id for item in Sandbox.list(query=SandboxQuery(metadata=metadata)).next_items()]

    assert sandbox.sandbox_id in ids({"suite": "python"})
    assert ids({"suite": "none of them"}) == []


def test_it_tells_about_itself(sandbox):
    info = sandbox.get_info()
    assert (info.sandbox_id, info.template_id, info.metadata) == (sandbox.sandbox_id, "base", {"suite": "python"})


def test_another_connection_and_a_later_deadline(sandbox):
    before = sandbox.get_info().end_at
    again = Sandbox.connect(sandbox.sandbox_id, timeout=1800)
    assert again.commands.run("echo same").stdout == "same\n"
    assert sandbox.get_info().end_at > before


def test_a_server_inside_is_reached_through_the_proxy(sandbox):
    sandbox.commands.run("mkdir -p site && echo inside > site/index.html")
    sandbox.commands.run("cd site && exec python3 -m http.server --bind 127.0.0.1 8000", background=True)
    request = urllib.request.Request(
        os.environ["E2B_SANDBOX_URL"],
        headers={"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": "8000"},
    )
    for attempt in range(100):
        try:
            with urllib.request.urlopen(request) as response:
                assert response.read() == b"inside\n"
                return
        except urllib.error.HTTPError as err:
            assert err.code == 502 and attempt < 99


def test_kill_is_true_once():
    sandbox = Sandbox.create(timeout=60)
    assert sandbox.is_running()
    assert sandbox.kill() is True
    assert not sandbox.is_running()
    assert sandbox.kill() is False


def test_a_timeout_of_zero_ends_it():
    sandbox = Sandbox.create(timeout=60)
    sandbox.set_timeout(0)
    for _ in range(200):
        if not sandbox.is_running():
            return
    pytest.fail("it still runs")


@needs_callback
def test_a_read_only_key_lists_and_cannot_create():
    key = os.environ["READONLY_KEY"]
    Sandbox.list(api_key=key).next_items()
    with pytest.raises(AuthenticationException):
        Sandbox.create(api_key=key)


@needs_callback
def test_a_wrong_key_can_do_nothing():
    with pytest.raises(AuthenticationException):
        Sandbox.list(api_key=os.environ["WRONG_KEY"]).next_items()
