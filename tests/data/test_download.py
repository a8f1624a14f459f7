"""Downloads from a server that misbehaves: what is asked for, what arrives, what the user is told."""

import hashlib

import pytest
from downloads import CONTENT, OTHER, PATIENCE, SIZE, fails, interrupted, leave, names
from file_server import FileServer

from xql_jax.data import download as download_module
from xql_jax.data.download import download
from xql_jax.errors import UserError


@pytest.mark.parametrize("how", [{}, {"chunked": True}, {"slow": 0.05}])
def test_the_file_arrives_whole_and_alone(server, path, caplog, how):
    caplog.set_level("INFO", logger="xql_jax")
    server.plan = [how]
    download(server.url, path, PATIENCE)
    assert path.read_bytes() == CONTENT
    assert names(path) == ["data.hdf5"]
    assert server.ranges == [None]
    assert caplog.messages == [f"downloading {server.url} to {path}"]


def test_a_file_at_hand_makes_no_request(server, path, caplog):
    caplog.set_level("INFO", logger="xql_jax")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"whatever it is")
    download(server.url, path, PATIENCE)
    assert (server.ranges, path.read_bytes(), caplog.messages) == ([], b"whatever it is", [])


@pytest.mark.parametrize("stall", [True, False])
def test_after_a_break_only_the_rest_is_sent(server, path, stall):
    server.plan = [{"stop_after": 60_000, "stall": stall}]
    download(server.url, path, PATIENCE)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=60000-"]
    assert server.sent == [60_000, SIZE - 60_000]
    assert names(path) == ["data.hdf5"]


def test_a_connection_that_always_breaks_but_gets_on_is_not_given_up(server, path):
    server.plan = [{"stop_after": 10_000}] * 9  # three times the attempts
    download(server.url, path, PATIENCE)
    assert path.read_bytes() == CONTENT
    assert server.sent == [*[10_000] * 9, SIZE - 90_000]


def test_a_stall_is_an_error_and_the_next_run_goes_on(server, path, caplog):
    caplog.set_level("INFO", logger="xql_jax")
    server.plan = [{"stop_after": 60_000, "stall": True}, *[{"stop_after": 0, "stall": True}] * 9]
    message = fails(server, path, "the server has sent nothing for 0.4 s; 60,000 bytes are kept")
    assert f"put the file at {path} by hand, or name a mirror with --dataset_url=ADDRESS" in message
    assert len(server.ranges) == 4  # one that brought something, three in a row that did not
    assert path.with_name("data.hdf5.part").read_bytes() == CONTENT[:60_000]
    assert caplog.text.count("trying again in") == 3
    server.plan = []
    download(server.url, path, PATIENCE)
    assert path.read_bytes() == CONTENT
    assert server.sent[-1] == SIZE - 60_000
    assert ", going on after 0.1 MB" in caplog.text
    assert names(path) == ["data.hdf5"]


def test_a_server_without_ranges_sends_all_again(server, path):
    interrupted(server, path)
    server.plan = [{"know_ranges": False}]
    download(server.url, path, PATIENCE)
    assert path.read_bytes() == CONTENT
    assert (server.ranges, server.sent) == (["bytes=60000-"], [SIZE])


def test_a_file_that_has_changed_is_fetched_anew(server, path):
    interrupted(server, path)
    server.content, server.etag = OTHER, '"second"'
    download(server.url, path, PATIENCE)
    assert path.read_bytes() == OTHER
    assert server.sent == [SIZE]


def test_a_changed_size_is_noticed_where_if_range_is_ignored(server, path):
    interrupted(server, path)
    server.content = CONTENT + bytes(7)  # under the same ETag
    download(server.url, path, PATIENCE)
    assert path.read_bytes() == CONTENT + bytes(7)
    assert server.ranges == ["bytes=60000-", None]


def test_a_mirror_does_not_go_on_with_another_servers_bytes(server, path):
    interrupted(server, path)
    mirror = FileServer(OTHER)
    download(mirror.url, path, PATIENCE)
    mirror.close()
    assert path.read_bytes() == OTHER
    assert mirror.ranges == [None]


def test_a_wrong_range_is_not_put_into_the_file(server, path):
    interrupted(server, path)
    server.plan = [{"wrong_range": True}]
    download(server.url, path, PATIENCE)
    assert path.read_bytes() == CONTENT
    assert server.ranges == ["bytes=60000-", None]


def test_a_part_that_is_whole_needs_no_more_bytes(server, path):
    interrupted(server, path)
    leave(path, CONTENT, SIZE)
    download(server.url, path, PATIENCE)  # the server answers 416
    assert path.read_bytes() == CONTENT
    assert (server.ranges, server.sent) == ([f"bytes={SIZE}-"], [0])


def test_a_part_longer_than_the_file_is_thrown_away(server, path):
    interrupted(server, path)
    leave(path, CONTENT + b"more", SIZE + 4)
    download(server.url, path, PATIENCE)
    assert path.read_bytes() == CONTENT
    assert server.sent == [0, SIZE]


@pytest.mark.parametrize("about", [b"", b"no json \xff", b"[1]", b'{"url": 3}'])
def test_a_part_of_unknown_origin_is_not_gone_on_with(server, path, about):
    interrupted(server, path)
    path.with_name("data.hdf5.part.json").write_bytes(about)
    download(server.url, path, PATIENCE)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None]


@pytest.mark.parametrize("etag", ['W/"weak"', ""])
def test_without_a_validator_there_is_no_resuming(server, path, etag):
    server.etag = etag  # a weak one stands for the same meaning, not for the same bytes
    server.plan = [{"stop_after": 60_000}]
    download(server.url, path, PATIENCE)
    assert path.read_bytes() == CONTENT
    assert (server.ranges, server.sent) == ([None, None], [60_000, SIZE])


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_told_at_once(server, path, status):
    server.plan = [{"status": status}]
    message = fails(server, path, f"the server answers {status}")
    assert str(path) in message
    assert "--dataset_url=ADDRESS" in message
    assert len(server.ranges) == 1
    assert names(path) == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_overloaded_server_is_asked_again(server, path, status):
    server.plan = [{"status": status}] * 2
    download(server.url, path, PATIENCE)
    assert path.read_bytes() == CONTENT
    path.unlink()
    server.plan = [{"status": status}] * 9
    server.ranges.clear()
    fails(server, path, f"the server answers {status}")
    assert len(server.ranges) == PATIENCE.attempts


def test_redirections_are_followed(server, path):
    server.plan = [{"status": 302, "headers": [("Location", "/elsewhere")]}]
    download(server.url, path, PATIENCE)
    assert path.read_bytes() == CONTENT


def test_a_circle_of_redirections_ends(server, path):
    server.plan = [{"status": 302, "headers": [("Location", "/around")]}] * 40
    fails(server, path, "cannot be fetched.*more than 10 redirects")


def test_a_redirection_to_a_local_file_is_not_followed(server, path, tmp_path):
    (tmp_path / "secret").write_bytes(CONTENT)
    server.plan = [{"status": 302, "headers": [("Location", f"file://{tmp_path}/secret")]}]
    fails(server, path, "cannot be fetched")


def test_a_page_instead_of_the_file_is_refused(server, path):
    page = b"<html>please log in</html>"
    server.plan = [{"status": 200, "body": page, "headers": [("Content-Type", "text/html")]}]
    fails(server, path, "not HDF5 but text/html")
    assert names(path) == []  # nothing to go on with


def test_a_length_that_is_too_great_is_not_believed(server, path):
    server.plan = [{"claim": SIZE + 1000, "stop_after": None}] * 9
    fails(server, path, "the server has another file than before")  # for it has nothing beyond SIZE
    assert server.ranges == [None, f"bytes={SIZE}-", None, f"bytes={SIZE}-"]


def test_a_length_that_is_too_small_is_a_damaged_file(server, path):
    server.plan = [{"claim": SIZE - 1000}]
    fails(server, path, "damaged HDF5 file .*truncated")
    assert names(path) == []


def test_the_checksum_is_compared_where_it_is_known(server, path, monkeypatch):
    monkeypatch.setitem(download_module.CHECKSUMS, "data.hdf5", hashlib.sha256(CONTENT).hexdigest())
    server.content = OTHER
    fails(server, path, f"has the sha256 {hashlib.sha256(OTHER).hexdigest()}")
    assert names(path) == []
    server.content = CONTENT
    download(server.url, path, PATIENCE)
    assert path.read_bytes() == CONTENT


def test_the_kitchen_file_has_the_known_checksum(kitchen_file):
    known = download_module.CHECKSUMS["mini_kitchen_microwave_kettle_light_slider-v0.hdf5"]
    assert hashlib.sha256(kitchen_file.read_bytes()).hexdigest() == known


def test_no_server_at_all(path):
    server = FileServer(CONTENT)
    server.close()
    message = fails(server, path, "the connection failed")
    assert "Connection refused" in message
    assert "object at 0x" not in message


def test_unknown_host_is_one_readable_line(path):
    with pytest.raises(UserError, match=r"the connection failed \(.*resol") as error:
        download("http://no-such-host.invalid/data.hdf5", path, PATIENCE)
    assert "object at 0x" not in str(error.value)


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://a/b.hdf5", "data.hdf5", "http:///data.hdf5", ""]
)
def test_other_addresses_are_refused(path, url):
    with pytest.raises(UserError, match="must begin with http:// or https://"):
        download(url, path, PATIENCE)
    assert not path.parent.exists()


def test_an_address_that_makes_no_sense(path):
    with pytest.raises(UserError, match="cannot be fetched"):
        download("http://[::1/data.hdf5", path, PATIENCE)


@pytest.mark.parametrize("etag", ['"first"', 'W/"weak"', ""])
def test_only_bytes_that_the_next_run_can_use_are_called_kept(server, path, etag):
    server.etag = etag
    server.plan = [{"stop_after": 60_000}, *[{"status": 503}] * 9]
    message = fails(server, path, "the server answers 503")
    assert ("60,000 bytes are kept" in message) == (etag == '"first"')
    assert "; put the file at" in message
