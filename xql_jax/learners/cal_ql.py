"""Cal-QL (Nakamoto et al. 2023), for fine-tuning: CQL that lowers Q no further than to the data's returns.

Source: Nakamoto et al. 2023, "Cal-QL: Calibrated Offline RL Pre-Training for Efficient Online Fine-Tuning",
Eq. 5.1: in CQL's penalty Q at the policy's actions is max(Q, return-to-go); at uniform actions it stays Q.
Code: nakamotoo/Cal-QL, JaxCQL/conservative_sac.py; returns: JaxCQL/replay_buffer.py, `calc_return_to_go`.
Hyperparameters: conservative_sac.py, lines 28 to 40 (rates, number of actions, the best of 10 actions in the
backup); scripts/run_antmaze.sh, run_adroit.sh and, in branch dev/add-kitchen, run_kitchen.sh (weights,
networks, threshold 0.8 per weight, share of offline data 0.5, for kitchen 0.25). Others: CQL's here.

Differs: their losses are all of the networks from before the update; here the policy's is of the new Q. They
step the entropy coefficient on log alpha * (...), at the policy's rate; here on alpha * (...), at a rate of
its own. Their log-std is scaled and shifted by two learned numbers. In kitchen their penalty does not divide
by the actions' densities (`cql_importance_sample=False`), and its logsumexp has Q of the data's action, too.
Their multiplier begins at e, here at 1. If Q's targets have entropy, the action with the largest Q - alpha *
log pi is best here, theirs is the one with the largest Q.
run_adroit.sh trains for 20,000 updates offline; here the default (--num_pretraining_steps) is 1,000,000.
On AntMaze the last reward goes on forever after each time-out, theirs on trajectories of failures alone.
Online transitions are learned from at once, with CQL's penalty until their episode ends; theirs wait until
then. So for the first episode after the hand-over the online part of a minibatch has no lower bounds. The
discount and `endless` cannot be swept or changed online, because returns are computed with them before.
"""

import functools
from typing import ClassVar

import jax

from xql_jax.learners import cql
from xql_jax.learners.method import Method
from xql_jax.learners.parts import LearnerState
from xql_jax.settings import AT_LEAST_ONE, BELOW_ONE, EITHER, static
from xql_jax.types import Array, CalibratedBatch, PRNGKey


class CalQL(cql.CQL):
    """CQL from batches with returns-to-go, and the best of several actions in Q's targets."""

    discount: float = static(0.99, BELOW_ONE)
    backup_actions: int = static(
        10, AT_LEAST_ONE, "Actions of the policy sampled per next state; the best gives Q's target."
    )
    endless: bool = static(False, EITHER, "After a time-out the last reward goes on forever.")

    batch_type: ClassVar[type] = CalibratedBatch

    def next_values(self, state: LearnerState, observations: Array, key: PRNGKey) -> Array:
        """V(s') f32[B] of f32[B, O]: the largest of CQL's over `backup_actions` actions of the policy."""
        keys = jax.random.split(key, self.backup_actions)
        return jax.vmap(functools.partial(super().next_values, state, observations))(keys).max(axis=0)


OF_CQL = cql.METHODS["cql"]
METHODS = {
    "cal_ql": Method(
        CalQL,
        {**OF_CQL.defaults, **dict.fromkeys(("actor_hidden_dims", "critic_hidden_dims"), (256, 256))},
        settings={**OF_CQL.settings, "offline_fraction": 0.5},
    )
}
