import gzip
import hashlib
import io
import pickle
import tarfile
import threading
from collections import Counter
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from xpnet.data import download

IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
MEMBERS = ("data_batch_1", "test_batch")


class Server:
    """Serves ``files`` from localhost; ``faults`` says, by name, what goes wrong on the first requests."""

    def __init__(self):
        self.files, self.faults, self.requests = {}, {}, Counter()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, self))
        self.home = f"http://127.0.0.1:{self.http.server_port}/set/"


class Handler(BaseHTTPRequestHandler):
    def __init__(self, server, *args):
        self.content = server
        super().__init__(*args)

    def do_GET(self):
        name = self.path.removeprefix("/set/")
        self.content.requests[name] += 1
        if name not in self.content.files:
            self.send_error(404)
            return
        body = self.content.files[name]
        fault = self.content.faults.get(name, [])
        length, body = fault.pop(0)(body) if fault else (len(body), body)
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def cut(body):
    return len(body), body[:-3]


def short(body):
    return len(body) - 3, body[:-3]


def changed(body):
    return len(body), bytes(len(body))


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    serving = Server()
    thread = threading.Thread(target=serving.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield serving
    serving.http.shutdown()
    serving.http.server_close()
    thread.join()


def md5(raw):
    return hashlib.md5(raw).hexdigest()


@pytest.fixture
def images(server, monkeypatch):
    server.files = {IMAGES: gzip.compress(b"images"), LABELS: gzip.compress(b"labels")}
    files = {name: md5(raw) for name, raw in server.files.items()}
    monkeypatch.setitem(download.SOURCES, "mnist", download.Source(server.home, "mnist", files))
    return server


def archive(names=MEMBERS, folder="cifar-10-batches-py"):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name in names:
            raw = pickle.dumps(name, protocol=2)
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
    return stream.getvalue()


def serve_archive(server, monkeypatch, raw):
    server.files = {"cifar.tar.gz": raw}
    source = download.Source(
        server.home, "cifar-10-batches-py", {"cifar.tar.gz": md5(raw)}, MEMBERS, alternative="cifar-10-batches-bin"
    )
    monkeypatch.setitem(download.SOURCES, "cifar10", source)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_missing_files_are_downloaded_once(images, tmp_path, capfd):
    for _ in range(2):
        assert download.locate("mnist", tmp_path, progress=False) == tmp_path / "mnist"
    assert {name: (tmp_path / "mnist" / name).read_bytes() for name in names_in(tmp_path / "mnist")} == images.files
    assert images.requests == {IMAGES: 1, LABELS: 1}
    assert capfd.readouterr() == ("", "")


def test_progress_is_shown_and_nothing_else(images, tmp_path, capfd):
    download.locate("mnist", tmp_path)
    out, err = capfd.readouterr()
    assert out == ""
    assert "100%" in err
    assert "Downloading" not in err


def test_files_that_are_there_are_used_as_they_are(images, tmp_path):
    folder = tmp_path / "mnist"
    folder.mkdir()
    (folder / IMAGES).write_bytes(b"mine")
    (folder / LABELS.removesuffix(".gz")).write_bytes(b"mine, unpacked")
    download.locate("mnist", tmp_path, progress=False)
    assert not images.requests
    assert (folder / IMAGES).read_bytes() == b"mine"


@pytest.mark.parametrize("fault", [cut, short, changed])
def test_a_bad_download_is_tried_again(images, tmp_path, fault):
    images.faults = {LABELS: [fault] * download.RETRIES}
    download.locate("mnist", tmp_path, progress=False)
    assert (tmp_path / "mnist" / LABELS).read_bytes() == images.files[LABELS]
    assert images.requests[LABELS] == 1 + download.RETRIES


@pytest.mark.parametrize(
    ("fault", "fact"), [(cut, "IncompleteRead"), (short, "the known MD5"), (changed, "the known MD5")]
)
def test_a_bad_download_leaves_nothing_behind(images, tmp_path, fault, fact, refusal):
    images.faults = {LABELS: [fault] * (1 + download.RETRIES)}
    message = refusal(download.locate, "mnist", tmp_path, progress=False)
    assert fact in message
    assert f"from {images.home} into {tmp_path / 'mnist'}" in message
    assert names_in(tmp_path / "mnist") == [IMAGES]


def test_a_file_that_is_gone_is_named(images, tmp_path, refusal):
    del images.files[LABELS]
    message = refusal(download.locate, "mnist", tmp_path, progress=False)
    assert "404" in message
    assert LABELS in message


def test_without_a_network_it_fails_at_once(tmp_path, monkeypatch, refusal):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: pytest.fail("waited for another try"))
    files = {IMAGES: "0" * 32, LABELS: "0" * 32}
    home = "http://127.0.0.1:1/set/"
    monkeypatch.setitem(download.SOURCES, "mnist", download.Source(home, "mnist", files))
    message = refusal(download.locate, "mnist", tmp_path, progress=False)
    assert "no connection" in message
    assert f"put {IMAGES}, {LABELS} from {home} into {tmp_path / 'mnist'}" in message


def test_a_folder_that_cannot_be_made_is_named(images, tmp_path, refusal):
    (tmp_path / "file").touch()
    assert "could not be downloaded" in refusal(download.locate, "mnist", tmp_path / "file", progress=False)


def test_an_archive_is_unpacked_and_removed(server, tmp_path, monkeypatch):
    serve_archive(server, monkeypatch, archive())
    folder = download.locate("cifar10", tmp_path, progress=False)
    assert names_in(tmp_path) == ["cifar-10-batches-py"]
    assert names_in(folder) == sorted(MEMBERS)
    assert pickle.loads((folder / "test_batch").read_bytes()) == "test_batch"


def test_only_known_members_are_unpacked(server, tmp_path, monkeypatch):
    serve_archive(server, monkeypatch, archive([*MEMBERS, "../../escaped", "readme.html"]))
    assert names_in(download.locate("cifar10", tmp_path, progress=False)) == sorted(MEMBERS)
    assert names_in(tmp_path) == ["cifar-10-batches-py"]


@pytest.mark.parametrize("raw", [archive(MEMBERS[:1]), b"no archive"])
def test_an_archive_without_its_members_is_refused(server, tmp_path, monkeypatch, raw, refusal):
    serve_archive(server, monkeypatch, raw)
    message = refusal(download.locate, "cifar10", tmp_path, progress=False)
    assert "test_batch out of cifar.tar.gz" in message
    assert "test_batch" not in names_in(tmp_path / "cifar-10-batches-py")


def test_the_binary_version_is_as_good(server, tmp_path, monkeypatch):
    serve_archive(server, monkeypatch, archive())
    (tmp_path / "cifar-10-batches-bin").mkdir()
    assert download.locate("cifar10", tmp_path) == tmp_path / "cifar-10-batches-bin"
    assert not server.requests


def test_the_folder_comes_from_the_environment_and_then_the_cache(tmp_path, monkeypatch):
    monkeypatch.setitem(download.SOURCES, "mnist", download.Source("", "mnist", {}))
    monkeypatch.setenv("XPNET_DATA", str(tmp_path / "env"))
    assert download.locate("mnist") == tmp_path / "env" / "mnist"
    assert download.locate("mnist", tmp_path) == tmp_path / "mnist"
    monkeypatch.delenv("XPNET_DATA")
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / project)
    assert download.locate("mnist") == tmp_path / "xpnet" / "mnist"


@pytest.mark.parametrize("source", download.SOURCES.values(), ids=download.SOURCES)
def test_known_sources_are_well_formed(source):
    assert source.home.endswith("/")
    assert all(len(checksum) == 32 for checksum in source.files.values())
    assert not source.members or len(source.files) == 1
