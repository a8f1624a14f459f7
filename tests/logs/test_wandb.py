"""Runs on Weights & Biases without a network: the files that `wandb sync` would send have every row."""

import json
import struct
import time

import pytest

from xql_jax.logs.wandb import WandbLogger

BLOCK = 32_768  # bytes; W&B's files are logs as LevelDB's are, after 7 bytes


def records(path):
    """The records of a .wandb file: chunks [crc u32][length u16][type u8][content], none across a block."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, record = path.read_bytes(), 7, b""
    while len(content) - place >= 7:
        _, length, kind = struct.unpack_from("<IHB", content, place)
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        place += -place % BLOCK if -place % BLOCK < 7 else 0
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(record)
            record = b""


def written(folder):
    """The rows and the configs of a run's parts, in their order, and its ids."""
    rows, config, ids = [], {}, set()
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        for record in records(path):
            if items := record.history.item:
                row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in items}
                rows.append({name: value for name, value in row.items() if name == "_step" or name[0] != "_"})
            for update in (*record.config.update, *record.run.config.update):
                config[update.key or update.nested_key[0]] = json.loads(update.value_json)
            ids |= {record.run.run_id} - {""}
    return rows, config, ids


def test_offline_files_have_every_row_and_a_resumed_run_its_id(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    pytest.importorskip("wandb")
    for first in (1, 3):
        logger = WandbLogger(tmp_path, ["seed_0", "seed_1"], "project", {"algorithm": "xql"})
        for step in (first, first + 1):
            logger.write(0, step, {"value/loss": step / 2, "value/v": float("nan")})
            logger.write(1, step, {"value/loss": step / 4})
        logger.close()
        time.sleep(1.0)  # W&B's folders are named by the second
    rows, config, ids = written(tmp_path)
    assert rows == [
        {"_step": step, "value/loss/seed_0": step / 2, "value/loss/seed_1": step / 4} for step in (1, 2, 3, 4)
    ]
    assert config["algorithm"] == "xql"
    assert len(ids) == 1


def test_a_programs_own_run_stays_its_own_and_open(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for folder in ("own", "first", "second"):
        (tmp_path / folder).mkdir()
    silent = wandb.Settings(console="off", silent=True)
    own = wandb.init(project="thesis", dir=tmp_path / "own", settings=silent)
    try:
        for folder in ("first", "second"):
            logger = WandbLogger(tmp_path / folder, ["seed_0"], "project", {})
            logger.write(0, 1, {"value/loss": 2.0})
            wandb.log({"own/loss": 3.0})  # as between two trainings, or in a callback
            logger.close()
            assert wandb.run is own
    finally:
        own.finish()
    wanted = {"own": [3.0, 3.0], "first": [2.0], "second": [2.0]}
    found, deadline = {}, time.monotonic() + 60.0
    while [*found] != [
        *wanted
    ] and time.monotonic() < deadline:  # its files are whole a moment after `finish`
        found = {folder: written(tmp_path / folder) for folder in wanted}
        found = {folder: rest for folder, rest in found.items() if rest[0]}
        time.sleep(0.1)
    for folder, (rows, _, _) in found.items():
        values = [value for row in rows for name, value in row.items() if name != "_step"]
        assert values == wanted[folder]
    assert len({run for _, _, ids in found.values() for run in ids}) == 3
