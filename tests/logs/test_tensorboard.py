"""Event files, read record by record: [length u64][crc u32][event][crc u32]."""

import math
import struct

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
    values = [(event.step, value) for event in events(folder) for value in event.summary.value]
    return [(step, value.tag, value.simple_value) for step, value in values]


def test_a_member_has_a_folder_and_a_resumed_run_hides_what_it_repeats(tmp_path):
    # TensorBoard drops what it has of a run from the step of a START event on. Both files are there.
    for resume_step in (0, 7):
        logger = TensorBoardLogger(tmp_path, ["seed_0", "seed_1"], resume_step)
        logger.write(0, 10, {"value/loss": 4.0, "value/v": math.nan})
        logger.write(1, 10, {"value/loss": 2.0, "value/v": -1.0})
        logger.flush()
        assert scalars(tmp_path / "seed_0")[-1] == (10, "value/loss", 4.0)
        assert scalars(tmp_path / "seed_1")[-2:] == [(10, "value/loss", 2.0), (10, "value/v", -1.0)]
        logger.close()
    found = [e.step for e in events(tmp_path / "seed_0") if e.session_log.status == SessionLog.START]
    assert found == [1, 8]
