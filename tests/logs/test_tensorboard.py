"""Event files, read record by record: [length u64][crc u32][event][crc u32]."""

import math
import struct
import threading

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from xql_jax.errors import UserError
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


def test_a_resumed_run_hides_what_it_repeats(tmp_path):
    # TensorBoard drops what it has of a run from the step of a START event on. Both files are there.
    for resume_step in (0, 7):
        logger = TensorBoardLogger(tmp_path, ["seed_0"], resume_step)
        logger.write(0, 10, {"value/loss": 4.0, "value/v": math.nan})
        logger.flush()
        assert scalars(tmp_path / "seed_0")[-1] == (10, "value/loss", 4.0)
        logger.close()
    found = [e.step for e in events(tmp_path / "seed_0") if e.session_log.status == SessionLog.START]
    assert found == [1, 8]


def test_a_full_disk_is_told_by_who_writes(tmp_path):
    """And neither hangs nor is lost: tensorboardX's own thread would end, and its queue then fill."""
    threads = threading.active_count()
    logger = TensorBoardLogger(tmp_path, ["seed_0"])
    assert threading.active_count() == threads
    logger.flush()
    ((_, writer),) = logger._writers
    writer._py_recordio_writer._writer = open("/dev/full", "wb", buffering=0)  # noqa: SIM115
    with pytest.raises(UserError, match=r"cannot write .*seed_0: No space left on device; free space"):
        logger.write(0, 5, {"value/loss": 0.5})
    writer._py_recordio_writer._writer = open("/dev/full", "wb")  # noqa: SIM115
    for step in range(10):  # less than fills its buffer
        logger.write(0, step, {"value/loss": 0.5})
    with pytest.raises(UserError, match=r"cannot write .*seed_0: No space left on device; free space"):
        logger.flush()


def test_hyperparameters_are_shown_as_hparams(tmp_path, caplog):
    """TensorBoard's plug-in reads the session's values from the metadata of a summary."""
    logger = TensorBoardLogger(tmp_path, ["seed_0"])
    values = {"seed": 3, "beta": 0.5, "loss": "plain", "widths": (8, 16), "on": True, "clip": math.inf}
    logger.write_hyperparameters(0, values)
    logger.close()
    contents = [
        HParamsPluginData.FromString(value.metadata.plugin_data.content)
        for event in events(tmp_path / "seed_0")
        for value in event.summary.value
        if value.metadata.plugin_data.plugin_name == "hparams"
    ]
    (session,) = (c.session_start_info for c in contents if c.HasField("session_start_info"))
    found = {name: value.WhichOneof("kind") for name, value in session.hparams.items()}
    assert found == {
        "seed": "number_value",
        "beta": "number_value",
        "loss": "string_value",
        "widths": "string_value",
        "on": "bool_value",
        "clip": "string_value",
    }
    assert caplog.messages == []  # tensorboardX warns of what is not finite
    assert session.hparams["beta"].number_value == 0.5
    (experiment,) = (c.experiment for c in contents if c.HasField("experiment"))
    assert [metric.name.tag for metric in experiment.metric_infos] == ["evaluation/score"]
