"""What is told of a source alone is told beside others."""

import numpy as np
import pytest
from data_formats import joined as joined_arrays
from learners_views import with_next_actions
from test_seams import Walk

from xql_jax.data.arrays import from_arrays
from xql_jax.data.dataset import check_order, joined
from xql_jax.data.suspicions import suspicions, warn_of_suspicions
from xql_jax.errors import UserError
from xql_jax.suites.tasks import get_task

NAMES = ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations")


def walks(first, length=20, number=24):
    episodes = [Walk(first + seed, length, "timeout" if seed % 2 else "terminal") for seed in range(number)]
    rows = joined_arrays([episode.arrays() for episode in episodes])
    return {name: rows[name] for name in NAMES}


def rows_of(**changes):
    return {name: array for name, array in (walks(0) | changes).items() if array is not None}


D = walks(0)
LAST = D["terminals"] | D["timeouts"]
FAULTS = {
    "where episodes end": rows_of(terminals=0 * LAST, timeouts=0 * LAST, next_observations=None),
    "flags one row late": rows_of(terminals=np.roll(D["terminals"], 1), timeouts=np.roll(D["timeouts"], 1)),
    "flags inverted": rows_of(terminals=~D["terminals"]),
    "one and the same": rows_of(next_observations=D["next_observations"] * ~D["timeouts"][:, None]),
}


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_sound_source_hides_nothing_beside_it(fault, order, caplog):
    bad = FAULTS[fault]
    sound = [{name: walks(first)[name] for name in bad} for first in (100, 200, 300)]
    assert [line for line in suspicions(from_arrays(bad, "bad")) if fault in line]
    pair = [from_arrays(bad, "bad.npz"), from_arrays(joined_arrays(sound), "good.npz")][::order]
    told = suspicions(joined(pair))
    assert [line for line in told if fault in line]
    assert all(line.startswith("bad.npz: ") for line in told)
    warn_of_suspicions(joined(pair))
    assert [line for line in caplog.messages if line.startswith("bad.npz: ") and fault in line]
    assert not suspicions(from_arrays(joined_arrays(sound), "sound"))


def test_a_source_in_no_order_is_refused_beside_others():
    order = np.random.default_rng(0).permutation(len(LAST))
    shuffled = from_arrays({name: array[order] for name, array in D.items()}, "shuffled.npz")
    sound = from_arrays(joined_arrays([walks(first) for first in (100, 200, 300)]), "sound.npz")
    with pytest.raises(UserError, match=r"^shuffled\.npz: .* do not lead to the next row"):
        check_order(joined([sound, shuffled]), "sequences")
    single = shuffled.part(slice(1))
    assert not [line for line in suspicions(single) if "shuffled" in line]
    check_order(joined([sound, single]), "sequences")
    assert with_next_actions(joined([sound, single])).size == with_next_actions(sound).size


def test_the_first_trajectory_beyond_the_limit_is_told():
    """Among episodes of Hopper's 1,000 steps two are not parted."""
    rows = walks(0, length=1000, number=6)
    rows["timeouts"] |= rows["terminals"]
    rows["terminals"][:] = False
    del rows["next_observations"]
    rows["timeouts"][1999] = False
    told = [line for line in suspicions(from_arrays(rows, "x"), get_task("Hopper-v5")) if "longer" in line]
    assert told == ["1 trajectories are longer than an episode, 1000 steps: are time-outs missing?"]
