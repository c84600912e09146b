"""Pausing, snapshots and forks by the official Python SDK, unmodified: see test_sandbox.py."""

import os
import time

import pytest
from e2b import NotFoundException, Sandbox, SandboxQuery, SandboxState

pytestmark = pytest.mark.skipif("FULL_KEY" in os.environ, reason="a callback makes no difference")


@pytest.fixture
def sandbox():
    sandbox = Sandbox.create(timeout=300, envs={"FROM_CREATE": "yes"}, metadata={"suite": "python-pause"})
    yield sandbox
    sandbox.kill()


def boot_id(sandbox):
    return sandbox.commands.run("cat /proc/sys/kernel/random/boot_id").stdout


def test_what_runs_goes_on_after_each_pause(sandbox):
    command = sandbox.commands.run("sleep 1000", background=True, timeout=0)
    boot = boot_id(sandbox)
    for cycle in ("1", "2"):
        sandbox.files.write("cycle", cycle)
        assert sandbox.pause() is True
        assert sandbox.pause() is False
        assert sandbox.get_info().state == SandboxState.PAUSED
        assert not sandbox.is_running()
        assert sandbox.connect(timeout=300).sandbox_id == sandbox.sandbox_id
        assert sandbox.get_info().state == SandboxState.RUNNING
        assert sandbox.files.read("cycle") == cycle
        assert command.pid in [process.pid for process in sandbox.commands.list()]
    assert boot_id(sandbox) == boot
    assert sandbox.commands.run("echo $FROM_CREATE").stdout == "yes\n"


def test_without_memory_the_files_stay(sandbox):
    sandbox.files.write("file", "kept")
    boot = boot_id(sandbox)
    assert sandbox.pause(keep_memory=False) is True
    again = Sandbox.connect(sandbox.sandbox_id, timeout=300)
    assert again.files.read("file") == "kept"
    assert boot_id(again) != boot


def test_a_paused_one_is_listed_and_killed(sandbox):
    def listed(*states):
        query = SandboxQuery(metadata={"suite": "python-pause"}, state=list(states))
        return [item.sandbox_id for item in Sandbox.list(query=query).next_items()]

    sandbox.pause()
    assert sandbox.sandbox_id in listed(SandboxState.PAUSED)
    assert sandbox.sandbox_id not in listed(SandboxState.RUNNING)
    assert sandbox.kill() is True
    assert sandbox.sandbox_id not in listed(SandboxState.PAUSED, SandboxState.RUNNING)
    with pytest.raises(NotFoundException):
        Sandbox.connect(sandbox.sandbox_id)


def test_traffic_wakes_what_its_deadline_has_paused():
    sandbox = Sandbox.create(timeout=300, lifecycle={"on_timeout": "pause", "auto_resume": True})
    try:
        sandbox.set_timeout(0)
        assert sandbox.get_info().state == SandboxState.PAUSED
        assert sandbox.commands.run("echo awake").stdout == "awake\n"
        assert sandbox.get_info().state == SandboxState.RUNNING
    finally:
        sandbox.kill()


def test_snapshots(sandbox):
    name = f"python-{os.getpid()}-{time.time_ns()}"
    sandbox.files.write("file", "then")
    snapshot = sandbox.create_snapshot(name=name)
    sandbox.files.write("file", "now")
    child = Sandbox.create(snapshot.snapshot_id, timeout=300)
    try:
        assert child.files.read("file") == "then"
        assert [found.snapshot_id for found in sandbox.list_snapshots().next_items()] == [snapshot.snapshot_id]
        assert Sandbox.delete_snapshot(snapshot.snapshot_id) is True
        assert Sandbox.delete_snapshot(snapshot.snapshot_id) is False
        assert child.files.read("file") == "then"
    finally:
        child.kill()
    assert sandbox.files.read("file") == "now"


def test_forks(sandbox):
    sandbox.files.write("file", "then")
    children = sandbox.fork(count=2, timeout=300)
    try:
        assert len({child.sandbox_id for child in children} | {sandbox.sandbox_id}) == 3
        secrets = {child.commands.run("od -An -N32 -tx1 /dev/urandom").stdout for child in [sandbox, *children]}
        assert len(secrets) == 3
        for child in children:
            assert child.files.read("file") == "then"
    finally:
        for child in children:
            child.kill()
