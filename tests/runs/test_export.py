"""Files of exported policies in a folder that has some already."""

import json
import runpy

import numpy as np
import pytest
from tiny_runs import contents, offline_settings

from xql_jax.errors import UserError
from xql_jax.policy import load_policy
from xql_jax.runs.export import export_policy
from xql_jax.runs.offline import OfflineRun
from xql_jax.runs.tool_settings import ExportSettings

pytestmark = pytest.mark.slow


def test_files_of_two_policies_do_not_lie_together(unbroken, tmp_path):
    def export(member, *formats):
        settings = ExportSettings(
            checkpoint=str(unbroken[0].folder.path), output=str(tmp_path), member=member, formats=formats
        )
        export_policy(settings)
        return json.loads((tmp_path / "policy.json").read_text())["policy"]

    first = export(0, "jax", "npz")
    before = contents(tmp_path)
    with pytest.raises(UserError, match=r"policy\.jax: of another policy \(.*seed 3\): write all --formats"):
        export(1, "npz")
    assert contents(tmp_path) == before
    assert export(0, "npz") == first  # the same policy again
    assert export(1, "jax", "npz").endswith("seed 4")


def test_a_policy_of_data_alone_needs_no_simulator(data, tmp_path):
    settings = offline_settings(data, env_name=None, save_dir=str(tmp_path / "runs"))
    with OfflineRun(settings) as run:
        run.run()
    checkpoint, output = str(run.folder.path), str(tmp_path / "export")
    report = export_policy(ExportSettings(checkpoint=checkpoint, output=output))
    assert report["env_name"] is None
    assert report["largest_difference"].keys() == {"jax", "onnx", "npz"}
    mean = np.mean(np.load(data / "data.npz")["observations"], axis=0)  # about what the run normalises by
    act = runpy.run_path(str(tmp_path / "export" / "act.py"))["load"](tmp_path / "export" / "policy.npz")[0]
    expected = load_policy(run.folder.path)(mean)
    np.testing.assert_allclose(act(mean[None])[0], expected, atol=1e-5)
    with pytest.raises(UserError, match=r"without an environment: give --env_name"):
        export_policy(ExportSettings(checkpoint=checkpoint, output=output, episodes=2))
