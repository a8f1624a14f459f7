"""Servers that refuse, fail or send something else, and folders that take no download."""

import contextlib
import dataclasses
import socket
import sys
import threading

import pytest
from main_runs import ROOT, contents
from mistakes import assert_told

sys.path.append(str(ROOT / "tests" / "data"))
from file_server import FileServer

PAGE = {"body": b"<html>Sign in</html>", "status": 200, "headers": [("Content-Type", "text/html")]}
FROM = "inspect --env_name=hopper-medium-v2 --dataset_url="
# By name: how the server answers each request, and what the message must say.
ANSWERS = {
    "moved for ever": ({"status": 301, "headers": [("Location", "/folder/data.hdf5")]}, "redirects"),
    "moved to no address": (
        {"status": 302, "headers": [("Location", "http://[::1")]}, "redirects to 'http://[::1'", "no address"
    ),
    "escape sequences": (
        {"status": 200, "headers": [("Content-Type", "\x1b[31mred")]}, r"not HDF5 but \x1b[31mred"
    ),
    "a length of 400 digits": ({"claim": "9" * 400}, "more expected"),
    "bad request": ({"status": 400}, "400", "--dataset_url"),
    "password wanted": ({"status": 401}, "401", "--dataset_url"),
    "forbidden": ({"status": 403}, "403", "by hand", "--dataset_url"),
    "not there": ({"status": 404}, "404", "by hand", "--dataset_url"),
    "gone": ({"status": 410}, "410", "--dataset_url"),
    "no such method": ({"status": 405}, "405"),
    "too many requests": ({"status": 429}, "429"),
    "server's own fault": ({"status": 500}, "500", "by hand"),
    "bad gateway": ({"status": 502}, "502"),
    "overloaded": ({"status": 503}, "503"),
    "nothing in it": ({"status": 204}, "204"),
    "a part that nobody asked for": ({"status": 206, "body": b"x"}, "206"),
    "a web page": (PAGE, "not HDF5", "text/html"),
    "an empty body": ({"status": 200}, "not HDF5"),
    "cut in the midst": ({"stop_after": 1000, "know_ranges": False}, "1,000 bytes"),
    "cut after the headers": ({"stop_after": 0}, "connection failed"),
    "shorter than it says": ({"claim": 10**6}, "more expected"),
    "longer than the disk": ({"claim": 10**16, "stop_after": 10}, "MB are free", "D4RL_DATASET_DIR"),
    "half a file": ({"stop_after": 4000, "chunked": True}, "damaged HDF5"),
    "silence before the headers": ({"stop_after": 0, "stall": True, "slow": 0.0}, "nothing for 0.2 s"),
    "silence in the midst": (
        {"stop_after": 1000, "stall": True, "know_ranges": False}, "nothing for 0.2 s", "1,000 bytes are kept"
    ),
    "not what D4RL serves": ({}, "sha256", "mini_kitchen"),
}  # fmt: skip

MISTAKES = {
    "address of no scheme": (f"{FROM}data.hdf5", "'data.hdf5'", "http://"),
    "address of another scheme": (f"{FROM}ftp://127.0.0.1/data.hdf5", "ftp://", "http://"),
    "address of a local file": (f"{FROM}file:///data.hdf5", "file://", "http://"),
    "address without a host": (f"{FROM}http:///data.hdf5", "'http:///data.hdf5'"),
    "address with half a bracket": (f"{FROM}http://[::1/data.hdf5", "[::1", "cannot be fetched"),
    "port that is no number": (f"{FROM}http://127.0.0.1:port/data.hdf5", ":port"),
    "port that is too large": (f"{FROM}http://127.0.0.1:99999/data.hdf5", ":99999"),
    "name that cannot be a host's": (f"{FROM}http://.../data.hdf5", "http://.../"),
    "host that is not known": (f"{FROM}http://nowhere.invalid/data.hdf5", "nowhere.invalid", "by hand"),
    "nobody listens": (f"{FROM}http://127.0.0.1:{{closed}}/data.hdf5", "refused", "by hand"),
    "user and password": (f"{FROM}http://user:tr0ub4@127.0.0.1:{{closed}}/x.hdf5", "http://***@127.0.0.1"),
    "password with a slash": (f"{FROM}http://u:tr0ub4/d@127.0.0.1/x.hdf5", "http://***@127.0.0.1", "%2F"),
    "plain HTTP behind https": (f"{FROM}https://127.0.0.1:{{plain}}/data.hdf5", "SSL"),
    "who speaks no HTTP": (f"{FROM}http://127.0.0.1:{{chatter}}/data.hdf5", "connection failed"),
    "train_offline's server": (
        "bare --env_name=hopper-medium-v2 --config={configs}/mujoco_config.py --eval_episodes=0 "
        "--dataset_url={url}", "404", "--dataset_url",
    ),
}  # fmt: skip

# By name: $D4RL_DATASET_DIR and what the message must say.
FOLDERS = {
    "a file for a folder": ("good.hdf5", "good.hdf5", "cannot write"),
    "a folder that cannot be made": ("/proc/nowhere", "/proc/nowhere", "cannot write"),
    "a folder in a file": ("good.hdf5/a", "good.hdf5/a", "cannot write"),
    "a link to nowhere": ("broken_link", "broken_link", "cannot write"),
    "a damaged file": ("damaged", "hopper_medium-v2.hdf5", "not a readable HDF5 file"),
    "an empty file": ("empty", "hopper_medium-v2.hdf5", "empty"),
    "a directory for a file": ("directory", "hopper_medium-v2.hdf5", "directory"),
}


@pytest.fixture(scope="module")
def outcomes(place):
    """By name; each answer comes from a server of its own and goes to a folder of its own."""
    folder, content = place.folder, (place.folder / "good.hdf5").read_bytes()
    hopper = "hopper_medium-v2.hdf5"
    for name, make in (
        ("damaged", lambda path: path.write_text("not HDF5")),
        ("empty", lambda path: path.touch()),
        ("directory", lambda path: path.mkdir()),
    ):
        (folder / name).mkdir()
        make(folder / name / hopper)
    (folder / "broken_link").symlink_to("nowhere/at/all")
    before = contents(place.results)
    with contextlib.ExitStack() as stack:
        runs = {}
        for name, (answer, *_) in ANSWERS.items():
            server = serving(stack, content, answer)
            task = "kitchen-complete-v0" if name == "not what D4RL serves" else "hopper-medium-v2"
            run = place.run_of(f"inspect --env_name={task} --dataset_url={server.url}")
            runs[name] = in_folder(run, folder / "downloads" / name)
        names = {
            "url": serving(stack, content, {"status": 404}).url,
            "plain": serving(stack, content, {}).url.split(":")[2].split("/")[0],
            "closed": closed_port(),
            "chatter": chatting(stack),
        }
        runs |= {name: place.run_of(command, **names) for name, (command, *_) in MISTAKES.items()}
        command = place.run_of(f"{FROM}{names['url']}")
        runs |= {name: in_folder(command, cache) for name, (cache, *_) in FOLDERS.items()}
        outcomes = place.server.run_all(list(runs.values()), by_child=5)
    assert contents(place.results) == before
    assert not list((folder / "cache").glob("*.hdf5"))
    assert not list((folder / "downloads").rglob("*.hdf5"))
    return dict(zip(runs, outcomes, strict=True))


def in_folder(run, cache):
    changed = {"D4RL_DATASET_DIR": str(cache), "NO_PROXY": "*"}
    return dataclasses.replace(run, environment={**run.environment, **changed})


def serving(stack, content, answer):
    server = FileServer(content)
    server.plan = [answer] * 100
    stack.callback(server.close)
    return server


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def chatting(stack):
    """The port of a server that says something else than HTTP."""
    server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

    def chat():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                with connection:
                    connection.sendall(b"220 mail.example ready\r\n")

    threading.Thread(target=chat, daemon=True).start()
    return server.getsockname()[1]


WORDS = {name: words for table in (ANSWERS, MISTAKES, FOLDERS) for name, (_, *words) in table.items()}


def test_passwords_are_not_shown(outcomes):
    assert not [name for name, outcome in outcomes.items() if "tr0ub4" in outcome.out + outcome.err]


@pytest.mark.parametrize("name", WORDS)
def test_mistake_ends_with_one_line(outcomes, name):
    assert_told(outcomes[name], WORDS[name])
