"""A run compiled for devices that are not there: the numbers of the TPUs' compiler beside known ones.

`bytes` are beside the exact sizes of arrays, operations beside those of the networks' matrix products.
"""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from driver import ROOT, run_main

from xql_jax.workshop.tools.compile import kernels_in, longest_path

MAIN = ROOT / "experiments" / "compile.py"
HOPPER = ("--env_name=hopper-medium-v2", "--topology=v5e:2x2")


@pytest.mark.slow
def test_xql_on_a_tpu_beside_what_is_known():
    pytest.importorskip("libtpu")
    outcome = run_main([*HOPPER, "--num_seeds=64", "--transitions=1_000_000", "--json"], main=MAIN)
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out.splitlines()[-1])
    assert (found["devices_used"], found["members_per_device"], found["collectives"]) == (4, 16, [])
    # Data: 27 numbers a row. The compiler pads them to a multiple of 8: 32.
    np.testing.assert_allclose(found["bytes"]["data"], 32 * 4e6, rtol=0.05)
    # Members: the networks with two layers of 256, 2 critics and their targets, V, the policy; three have
    # Adam's two moments. A program returns new states beside the old.
    layers = {"critic": (14, 1), "value": (11, 1), "actor": (11, 3)}
    sizes = {name: (i + 1) * 256 + 257 * 256 + 257 * o for name, (i, o) in layers.items()}
    numbers = 2 * sizes["critic"] * 4 + (sizes["value"] + sizes["actor"]) * 3
    np.testing.assert_allclose(found["bytes"]["members"], 16 * 2 * 4 * numbers, rtol=0.1)
    # Operations: two for each weight and transition. Forward: Q of the targets twice (V's fit and the
    # policy's weights share it), V three times (its own, the weights', the target's), the policy. Backward
    # costs twice the forward of the critics, V and the policy, less the gradient of the inputs.
    products = {name: i * 256 + 256 * 256 + 256 * o for name, (i, o) in layers.items()}
    q, v, policy = (products[name] for name in ("critic", "value", "actor"))
    inputs = 2 * 14 * 256 + 2 * 11 * 256
    known = 2 * 256 * (2 * q + 3 * v + policy + 2 * q + 2 * (2 * q + v + policy) - inputs)
    np.testing.assert_allclose(found["operations_per_update"], 16 * known, rtol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(("members", "most"), [(1, 66), (64, 64)])
def test_kernels_of_an_update_of_xql_on_a_gpu(members, most):
    """Each takes some microseconds, so their number is the time of an update; 139 and 111 before."""
    pytest.importorskip("jax_cuda13_plugin", reason="needs the GPUs' compiler: pip install 'xql_jax[cuda]'")
    arguments = ["--env_name=hopper-medium-v2", "--layer_norm=false", "--topology=h100", "--json"]
    outcome = run_main([*arguments, f"--num_seeds={members}"], main=MAIN)
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out.splitlines()[-1])
    assert sum(found["kernels_by_kind"].values()) == found["kernels"] <= most
    assert 10 < found["longest_path"] <= 22
    # Two products a layer forwards and backwards cannot be left out; last layers of width 1 are reductions.
    assert found["kernels_by_kind"]["products"] >= 10


PROGRAM = """
%joined (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  ROOT %copy.3 = f32[8]{0} copy(%p)
}

%body (carry: (s32[], f32[8])) -> (s32[], f32[8]) {
  %gemm_fusion = f32[8]{0} fusion(%x), kind=kCustom, calls=%a, backend_config={"kind":"__triton_gemm"}
  %sum = (f32[], f32[8]{0}) fusion(%gemm_fusion), kind=kInput, calls=%b
  %add = f32[8]{0} fusion(%sum), kind=kLoop, calls=%c
  %call = f32[8]{0} call(%add), to_apply=%joined
  %inner = (s32[], f32[8]{0}) while(%t), condition=%d, body=%short
  ROOT %tuple = (s32[], f32[8]{0}) tuple(%i, %call)
}

%short (carry: (s32[], f32[8])) -> (s32[], f32[8]) {
  ROOT %add.2 = f32[8]{0} fusion(%sum), kind=kLoop, calls=%c
}

ENTRY %main (x: f32[8]) -> f32[8] {
  %before = f32[8]{0} fusion(%x), kind=kLoop, calls=%c
  ROOT %loop = (s32[], f32[8]{0}) while(%t), condition=%d, body=%body
}
"""


def test_kernels_are_those_of_the_loop_that_has_most_of_them():
    assert kernels_in(PROGRAM) == {"products": 1, "reductions": 1, "arithmetic": 1, "copies": 1}


def test_the_longest_path_is_that_of_kernels_that_wait_for_each_other():
    assert longest_path(PROGRAM) == 4
    assert longest_path(PROGRAM.replace("fusion(%gemm_fusion)", "fusion(%x)")) == 3


def test_two_chains_of_a_loop_are_as_long_as_the_longer_one():
    """Sorts are kernels that no compiler joins: three need each other, and two run beside them."""

    def body(_, carry):
        long, short = carry
        return jnp.sort(-jnp.sort(-jnp.sort(-long))), jnp.sort(-jnp.sort(-short))

    loop = jax.jit(lambda carry: jax.lax.fori_loop(0, 5, body, carry))
    text = loop.lower((jnp.arange(8.0), jnp.arange(9.0))).compile().as_text()
    sorts = re.sub(r" (?:fusion|copy|call)\(", " other(", text)  # what else a CPU has
    assert sum(kernels_in(sorts).values()) == 5
    assert longest_path(sorts) == 3
