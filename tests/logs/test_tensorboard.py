"""Event files, read record by record: [length u64][crc u32][event][crc u32]."""

import struct

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from xql_jax.logs.tensorboard import TensorBoardLogger


def events(folder):
    found = []
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            found.append(Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
    return found


def scalars(folder):
    return [
        (event.step, value.tag, value.simple_value)
        for event in events(folder)
        for value in event.summary.value
    ]


def test_one_folder_a_member(tmp_path):
    logger = TensorBoardLogger(tmp_path, ["seed_0", "seed_1"])
    logger.write(0, 5, {"value/loss": 0.5, "value/v": -1.0})
    logger.write(1, 5, {"value/loss": 2.0})
    logger.write(1, 10, {"value/loss": 4.0})
    logger.close()
    assert scalars(tmp_path / "seed_0") == [(5, "value/loss", 0.5), (5, "value/v", -1.0)]
    assert scalars(tmp_path / "seed_1") == [(5, "value/loss", 2.0), (10, "value/loss", 4.0)]


@pytest.mark.parametrize(("resume_step", "starts"), [(0, [1]), (7, [8])])
def test_a_resumed_run_hides_what_it_repeats(tmp_path, resume_step, starts):
    # TensorBoard drops what it has of a run from the step of a START event on.
    logger = TensorBoardLogger(tmp_path, ["seed_0"], resume_step)
    logger.write(0, 10, {"value/loss": 4.0})
    logger.close()
    found = [e.step for e in events(tmp_path / "seed_0") if e.session_log.status == SessionLog.START]
    assert found == starts
