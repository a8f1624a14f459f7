"""Users' own environments, and those of other packages, which Gymnasium makes."""

from xql_jax.suites.record import Suite

SUITE = Suite(
    "own",
    config="own",
    takes_any_config=True,
    environment="xql_jax.envs.registered:Registered",
    packages=("gymnasium",),
    bounds_from_environment=True,
    draws_itself=True,
    tells_success_late=True,
)
