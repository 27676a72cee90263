"""Files that appear whole or not at all: in which order they are written, flushed and named."""

import errno
import os
from pathlib import Path

import pytest

from xpnet.files import remove_partial, write_whole

posix = pytest.mark.skipif(os.name != "posix", reason="elsewhere folders are not flushed")


@pytest.fixture
def told(monkeypatch):
    """What is flushed and renamed, in order: the names of the files."""
    done = []

    def flush(descriptor, fsync=os.fsync):
        done.append(("flush", Path(f"/proc/self/fd/{descriptor}").resolve().name, os.fstat(descriptor).st_size))
        fsync(descriptor)

    def rename(path, target, replace=Path.replace):
        done.append(("rename", path.name, Path(target).name))
        return replace(path, target)

    monkeypatch.setattr("os.fsync", flush)
    monkeypatch.setattr(Path, "replace", rename)
    return done


@posix
@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="no /proc tells what a descriptor is of")
def test_a_file_is_flushed_before_it_has_its_name_and_its_folder_after(tmp_path, told):
    """A loss of power between two of these leaves the old file or the new one."""
    write_whole(tmp_path / "a.txt", b"one ", b"two")
    (flushed, partial, size), renamed, (last, folder, _) = told
    assert (flushed, size) == ("flush", 7)
    assert partial.endswith(".part")
    assert renamed == ("rename", partial, "a.txt")
    assert (last, folder) == ("flush", tmp_path.name)
    assert (tmp_path / "a.txt").read_bytes() == b"one two"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_what_was_there_stays_where_writing_fails(tmp_path, monkeypatch, error):
    def fail(descriptor):
        raise error

    (tmp_path / "a.txt").write_bytes(b"old")
    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(type(error)):
        write_whole(tmp_path / "a.txt", b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.txt": b"old"}


def test_only_what_was_being_written_is_removed(tmp_path):
    for name in (".a.txt.0a1b.part", "a.part", ".hidden"):
        (tmp_path / name).touch()
    remove_partial(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"a.part", ".hidden"}
