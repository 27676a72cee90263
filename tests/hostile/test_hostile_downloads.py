"""Servers and archives of strangers: they send elsewhere, without end, or what is no plain file."""

import gzip
import hashlib
import io
import itertools
import tarfile
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from xpnet.data import download

FILE = "train-images-idx3-ubyte.gz"
GOOD = b"what is expected"
ENDLESS = 2**20
"""Bytes of chunks that are sent until nobody listens."""


class Server:
    """Answers each path with a status, headers and parts of a body."""

    def __init__(self):
        self.answers, self.asked, self.sent = {}, [], 0
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, self))
        self.home = f"http://127.0.0.1:{self.http.server_port}/set/"


class Handler(BaseHTTPRequestHandler):
    def __init__(self, server, *args):
        self.content = server
        super().__init__(*args)

    def do_GET(self):
        self.content.asked.append(self.path)
        status, headers, parts = self.content.answers[self.path.removeprefix("/set/").partition("?")[0]]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            for part in parts:
                self.wfile.write(part)
                self.content.sent += len(part)
        except OSError:  # whoever asked has heard enough
            self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    serving = Server()
    files = {FILE: hashlib.md5(GOOD).hexdigest()}
    monkeypatch.setitem(download.SOURCES, "mnist", download.Source(serving.home, "mnist", files))
    thread = threading.Thread(target=serving.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield serving
    serving.http.shutdown()
    serving.http.server_close()
    thread.join()


@pytest.fixture
def refused(server, tmp_path, refusal):
    """Downloads what the server answers with; nothing may be left behind."""

    def check(status, headers, parts):
        server.answers[FILE] = status, headers, parts
        message = refusal(partial(download.locate, "mnist", tmp_path, progress=False))
        assert message.startswith("mnist could not be downloaded")
        assert list((tmp_path / "mnist").iterdir()) == []
        return message

    return check


def test_a_good_redirection_is_followed(server, tmp_path):
    server.answers = {FILE: (302, {"Location": "/set/other", "Content-Length": "0"}, [])}
    server.answers["other"] = 200, {"Content-Length": str(len(GOOD))}, [GOOD]
    download.locate("mnist", tmp_path, progress=False)
    assert (tmp_path / "mnist" / FILE).read_bytes() == GOOD


@pytest.mark.parametrize(
    "place", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "gopher://127.0.0.1/x", "x://"]
)
def test_a_redirection_to_what_is_no_web_address_is_refused(server, refused, place):
    message = refused(302, {"Location": place, "Content-Length": "0"}, [])
    assert "No connection adapters" in message or "Invalid" in message
    assert "MD5" not in message
    assert len(server.asked) == 1


@pytest.mark.parametrize("place", ["http://", "http://[", "http://127.0.0.1:99999/", "http://\x01/"])
def test_a_redirection_to_no_address_is_refused(server, refused, place):
    assert "MD5" not in refused(302, {"Location": place, "Content-Length": "0"}, [])


def test_a_file_on_this_machine_is_never_taken_for_the_download(server, refused, tmp_path):
    (tmp_path / "secret").write_bytes(GOOD)  # even with the right checksum
    refused(302, {"Location": (tmp_path / "secret").as_uri(), "Content-Length": "0"}, [])


def test_endless_redirections_are_refused(server, refused):
    message = refused(302, {"Location": f"/set/{FILE}", "Content-Length": "0"}, [])
    assert "30 redirects" in message
    assert len(server.asked) <= 31 * (1 + download.RETRIES)


def test_the_endless_body_of_a_redirection_is_not_read(server, refused):
    server.answers["gone"] = 404, {"Content-Length": "0"}, []
    assert "404" in refused(302, {"Location": "/set/gone"}, itertools.islice(itertools.repeat(bytes(ENDLESS)), 200))
    assert server.sent < 100 * ENDLESS


@pytest.mark.parametrize("length", [None, "16", "99999999999999999999", "-1", "many", ""])
def test_more_than_the_largest_file_is_not_read(refused, monkeypatch, length):
    monkeypatch.setattr(download, "LARGEST", 10**6)
    headers = {} if length is None else {"Content-Length": length}
    parts = [bytes(10**5)] * 50
    assert "could not be downloaded" in refused(200, headers, parts)


def test_an_endless_download_ends(server, refused, monkeypatch):
    monkeypatch.setattr(download, "LARGEST", 10**6)
    message = refused(200, {}, itertools.islice(itertools.repeat(bytes(ENDLESS)), 200))
    assert "it has more than 1000000 bytes" in message
    assert len(server.asked) == 1
    assert server.sent < 100 * ENDLESS


def test_a_packed_answer_is_not_unpacked_beyond_the_limit(refused, monkeypatch):
    monkeypatch.setattr(download, "LARGEST", 10**6)
    bomb = gzip.compress(bytes(50_000_000))
    headers = {"Content-Encoding": "gzip", "Content-Length": str(len(bomb))}
    assert "it has more than 1000000 bytes" in refused(200, headers, [bomb])


# Archives with the right checksum


def archive_of(*members):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, facts, content in members:
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(content)
            for fact, value in facts.items():
                setattr(info, fact, value)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


MEMBERS = {
    "a symbolic link out of the folder": {"type": tarfile.SYMTYPE, "linkname": "../../secret"},
    "a symbolic link beside it": {"type": tarfile.SYMTYPE, "linkname": "../secret"},
    "an absolute link": {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
    "a hard link": {"type": tarfile.LNKTYPE, "linkname": "cifar-10-batches-py/good"},
    "a hard link out of the folder": {"type": tarfile.LNKTYPE, "linkname": "../secret"},
    "a character device": {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 5},
    "a block device": {"type": tarfile.BLKTYPE, "devmajor": 8, "devminor": 0},
    "a pipe": {"type": tarfile.FIFOTYPE},
    "a folder": {"type": tarfile.DIRTYPE},
}


@pytest.fixture
def unpacked(server, tmp_path, monkeypatch, refusal):
    """Serves the archive as CIFAR-10 with one member, test_batch, which must be refused."""

    def check(raw):
        source = download.Source(
            server.home, "cifar-10-batches-py", {"c.tar.gz": hashlib.md5(raw).hexdigest()}, ("test_batch",)
        )
        monkeypatch.setitem(download.SOURCES, "cifar10", source)
        server.answers["c.tar.gz"] = 200, {"Content-Length": str(len(raw))}, [raw]
        (tmp_path / "secret").write_bytes(b"secret")
        message = refusal(partial(download.locate, "cifar10", tmp_path, progress=False))
        assert sorted(path.name for path in tmp_path.rglob("*")) == ["cifar-10-batches-py", "secret"]
        assert (tmp_path / "secret").read_bytes() == b"secret"
        return message

    return check


@pytest.mark.parametrize("facts", MEMBERS.values(), ids=MEMBERS)
def test_a_member_that_is_no_plain_file_is_refused(unpacked, facts):
    raw = archive_of(("good", {}, b"good"), ("test_batch", facts, b""))
    assert "test_batch is no plain file" in unpacked(raw)


@pytest.mark.parametrize("name", ["../test_batch", "/test_batch", "../../secret", "x/../../secret"])
def test_a_member_of_another_place_is_not_taken(unpacked, name):
    assert "test_batch" in unpacked(archive_of((name, {"name": name}, b"evil")))


def test_a_member_behind_a_link_stays_inside(unpacked):
    """The folder itself as a link: what is in it would be written elsewhere."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        link = tarfile.TarInfo("cifar-10-batches-py")
        link.type, link.linkname = tarfile.SYMTYPE, "../.."
        tar.addfile(link)
        batch = tarfile.TarInfo("cifar-10-batches-py/other")
        tar.addfile(batch, io.BytesIO(b""))
    assert "test_batch" in unpacked(stream.getvalue())


def test_a_member_that_is_too_large_is_refused(unpacked, monkeypatch):
    monkeypatch.setattr(download, "LARGEST", 10**6)
    assert "no plain file of at most 1000000 bytes" in unpacked(archive_of(("test_batch", {}, bytes(10**6 + 1))))
