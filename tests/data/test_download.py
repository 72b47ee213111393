"""Files are fetched once, checked, fetched again when damaged, resumed when cut off (a loopback server)."""

import hashlib
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pooch.core
import pytest

from gmcourse.data import download
from gmcourse.data.download import Published, fetch, require
from gmcourse.data.errors import DataCorrupt, DataUnavailable

CONTENT = bytes(range(256)) * 1500  # 384 kB, several chunks
DIGEST = hashlib.sha256(CONTENT).hexdigest()
CUT = 3 << 16  # after three chunks


class Server(ThreadingHTTPServer):
    """Serves `content` at every path but /404; the first `cuts` answers break off after CUT bytes."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.cuts, self.ranges, self.log = CONTENT, 0, True, []

    def url(self, path):
        return f"http://127.0.0.1:{self.server_port}/{path}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.log.append((self.path, wanted))
        if self.path == "/404":
            self.send_error(404)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and server.ranges else 0
        if start and start >= len(server.content):
            self.send_error(416)
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.cuts:
            server.cuts -= 1
            body = body[:CUT]
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def pauses(monkeypatch):
    """The seconds that were waited before trying again; none is waited in truth."""
    waited = []
    monkeypatch.setattr(pooch.core.time, "sleep", waited.append)
    return waited


@pytest.fixture(autouse=True)
def direct(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def published(*addresses):
    return Published("data.bin", addresses, (DIGEST, hashlib.sha256(b"other packing").hexdigest()))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_fetched_once(server, tmp_path):
    file = published(server.url("data.bin"))
    for _ in range(2):
        path = fetch(file, tmp_path / "new" / "folder", instead="emoji")
        assert path.read_bytes() == CONTENT
    assert server.log == [("/data.bin", None)] and names(path.parent) == ["data.bin"]


def test_another_packing_of_the_same_data_is_taken_as_it_is(server, tmp_path):
    (tmp_path / "data.bin").write_bytes(b"other packing")
    assert fetch(published(server.url("x")), tmp_path, instead="emoji").read_bytes() == b"other packing"
    assert server.log == []


@pytest.mark.parametrize("damage", [CONTENT[:-1], b"", CONTENT[:99] + b"!" + CONTENT[100:]])
def test_a_damaged_file_in_the_cache_is_fetched_again(server, tmp_path, damage):
    (tmp_path / "data.bin").write_bytes(damage)
    assert fetch(published(server.url("data.bin")), tmp_path, instead="emoji").read_bytes() == CONTENT
    assert len(server.log) == 1


def test_a_download_that_breaks_off_goes_on_where_it_stopped(server, tmp_path, pauses):
    server.cuts = 1
    assert fetch(published(server.url("d")), tmp_path, instead="emoji").read_bytes() == CONTENT
    assert server.log == [("/d", None), ("/d", f"bytes={CUT}-")] and pauses == [1]
    assert names(tmp_path) == ["data.bin"]


def test_a_server_without_ranges_is_asked_for_all_of_it_again(server, tmp_path, pauses):
    server.cuts, server.ranges = 1, False
    assert fetch(published(server.url("d")), tmp_path, instead="emoji").read_bytes() == CONTENT
    assert len(server.log) == 2


def test_what_was_got_before_giving_up_is_kept_for_the_next_call(server, tmp_path, pauses, monkeypatch):
    monkeypatch.setattr(download, "RETRIES", 0)
    server.cuts = 1
    with pytest.raises(DataUnavailable):
        fetch(published(server.url("d")), tmp_path, instead="emoji")
    assert names(tmp_path) == ["data.bin.part"]
    assert fetch(published(server.url("d")), tmp_path, instead="emoji").read_bytes() == CONTENT
    assert server.log[1] == ("/d", f"bytes={CUT}-") and names(tmp_path) == ["data.bin"]


def test_ctrl_c_keeps_what_was_got(server, tmp_path, monkeypatch):
    class Interrupting(download.tqdm):
        def update(self, n=1):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(download, "tqdm", Interrupting)
        with pytest.raises(KeyboardInterrupt):
            fetch(published(server.url("d")), tmp_path, instead="emoji")
    assert names(tmp_path) == ["data.bin.part"]
    assert CONTENT.startswith((tmp_path / "data.bin.part").read_bytes())
    assert fetch(published(server.url("d")), tmp_path, instead="emoji").read_bytes() == CONTENT
    assert server.log[1][1].startswith("bytes=")


@pytest.mark.parametrize("partial", [CONTENT, b"x" * 1000, b"x" * (len(CONTENT) + 1)],
                         ids=["complete", "foreign", "too long"])
def test_any_partial_file_ends_in_the_right_content(server, tmp_path, pauses, partial):
    (tmp_path / "data.bin.part").write_bytes(partial)
    assert fetch(published(server.url("d")), tmp_path, instead="emoji").read_bytes() == CONTENT
    assert names(tmp_path) == ["data.bin"]


def test_the_wrong_file_is_tried_again_and_never_kept(server, tmp_path, pauses):
    server.content = b"<html>please log in</html>"
    with pytest.raises(DataUnavailable, match="hash"):
        fetch(published(server.url("d")), tmp_path, instead="emoji")
    assert len(server.log) == 1 + download.RETRIES and names(tmp_path) == []


def test_the_second_address_is_used_when_the_first_fails(server, tmp_path, pauses):
    path = fetch(published(server.url("404"), server.url("mirror")), tmp_path, instead="emoji")
    assert path.read_bytes() == CONTENT and server.log[-1] == ("/mirror", None)


@pytest.mark.parametrize("state", ["missing", "damaged"])
def test_without_a_network_the_error_names_file_folder_and_way_out(server, tmp_path, pauses, state):
    if state == "damaged":
        (tmp_path / "data.bin").write_bytes(b"half")
    server.server_close()  # nobody listens there any more
    with pytest.raises(DataUnavailable) as caught:
        fetch(published(server.url("data.bin")), tmp_path, instead="emoji")
    message = str(caught.value)
    assert f"{tmp_path / 'data.bin'} is {state}" in message
    assert f"Put data.bin into {tmp_path} by hand" in message and "data.bin: no connection" in message
    assert "load_images('emoji'), which needs no network" in message
    assert pauses == [] and isinstance(caught.value, OSError)


def test_a_folder_of_the_users_own_is_only_read(tmp_path):
    file = published("http://127.0.0.1:9/data.bin")
    with pytest.raises(DataUnavailable, match=r"no data\.bin in .*http.*load_images\('mnist'\)"):
        require(file, tmp_path, instead="mnist")
    for content in [CONTENT, b"other packing"]:
        (tmp_path / "data.bin").write_bytes(content)
        assert require(file, tmp_path, instead="mnist") == tmp_path / "data.bin"
    (tmp_path / "data.bin").write_bytes(b"mine")
    with pytest.raises(DataCorrupt, match=rf"data\.bin: SHA-256 .*; the published file has {DIGEST}"):
        require(file, tmp_path, instead="mnist")
    assert (tmp_path / "data.bin").read_bytes() == b"mine"


def test_importing_opens_no_connection():
    code = ("import socket\n"
            "def refuse(*_): raise AssertionError('a connection was opened')\n"
            "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
            "import gmcourse.data.images\n")
    subprocess.run([sys.executable, "-c", code], check=True)
