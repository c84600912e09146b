"""What the official SDK can do with files beyond reading and writing them."""
import time

import pytest
from e2b import FileNotFoundException, FilesystemEventType, Sandbox


@pytest.fixture(scope="module")
def sandbox():
    sandbox = Sandbox.create(timeout=900)
    yield sandbox
    sandbox.kill()


def test_a_watched_directory_is_asked_for_its_events(sandbox):
    sandbox.files.make_dir("polled")
    handle = sandbox.files.watch_dir("polled", recursive=True)
    sandbox.files.write("polled/a/b", "x")
    seen = set()
    wanted = {(FilesystemEventType.CREATE, "a"), (FilesystemEventType.CREATE, "a/b")}
    deadline = time.monotonic() + 60
    while not wanted <= seen and time.monotonic() < deadline:
        seen |= {(event.type, event.name) for event in handle.get_new_events()}
    assert wanted <= seen
    handle.stop()
    with pytest.raises(FileNotFoundException):
        sandbox.files.watch_dir("none")


def test_metadata_stay_with_a_file(sandbox):
    assert sandbox.files.write("described", "x", metadata={"author": "me"}).metadata == {"author": "me"}
    assert sandbox.files.rename("described", "moved").metadata == {"author": "me"}
