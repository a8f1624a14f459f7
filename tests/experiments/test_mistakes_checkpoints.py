"""Runs' folders that are none, or are not as they were: evaluate.py and --resume tell, and change nothing."""

import fcntl
import hashlib
import json
import shutil

import pytest
from main_runs import contents, write_dataset
from mistakes import assert_told

from xql_jax.files import read_record, write_record


def rewrite(**changes):
    """Changes entries of config.json as another version might write them; None removes one, `config__NAME` is
    an entry of its config."""

    def damage(run):
        content = read_record(run / "config.json")
        for name, value in changes.items():
            inner = content["config"] if name.startswith("config__") else content
            inner.pop(name.removeprefix("config__"), None)
            if value is not None:
                inner[name.removeprefix("config__")] = value
        write_record(run / "config.json", content)

    return damage


def change_config(old, new):
    def damage(run):
        text = json.dumps(read_record(run / "config.json"), indent=2)
        assert old in text
        write_record(run / "config.json", json.loads(text.replace(old, new)))

    return damage


def edit_json(path, **changes):
    write_record(path, {**read_record(path), **changes})


def write(name, content):
    return lambda run: (run / name).write_bytes(content)


def change(pattern, edit):
    """Edits the bytes of the largest file of the checkpoint whose name is like the pattern."""

    def damage(run):
        path = max((run / "checkpoints" / "4").rglob(pattern), key=lambda path: path.stat().st_size)
        path.write_bytes(edit(path.read_bytes()))

    return damage


def flip(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def halve(content):
    return content[: len(content) // 2]


def remove(pattern):
    def damage(run):
        path = max(run.rglob(pattern), key=lambda path: path.stat().st_size)
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return damage


def write_as_before(run):
    """Has the checkpoint as the versions before wrote it: all members' states together, and whole."""
    checkpoint = run / "checkpoints" / "4"
    manifest = json.loads((checkpoint / "checkpoint.json").read_text())
    (leaves,) = manifest["members"].values()
    (checkpoint / "members" / "seed42").rename(checkpoint / "states")
    (checkpoint / "members").rmdir()
    files = {name.replace("members/seed42/", "states/"): digest for name, digest in manifest["files"].items()}
    content = {"progress": manifest["progress"], "leaves": leaves, "files": files}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    (checkpoint / "checkpoint.json").write_text(json.dumps({**content, "digest": digest}))


def replace_by_folder(name):
    def damage(run):
        (run / name).unlink()
        (run / name).mkdir()

    return damage


OLDER = "written by a version before 0."  # and that it kept all members in one file
# By name: what is done to a copy of the run that is evaluated, and what the message must say.
DAMAGES = {
    "no config.json": (remove("config.json"), "config.json", "not the folder of a run"),
    "a folder for config.json": (replace_by_folder("config.json"), "config.json"),
    "empty config.json": (write("config.json", b""), "config.json", "damaged"),
    "text for JSON": (write("config.json", b"beta: 2\n"), "config.json", "damaged"),
    "half of the JSON": (lambda run: write("config.json", halve((run / "config.json").read_bytes()))(run),
                         "config.json", "damaged"),
    "bytes for JSON": (write("config.json", b"\xff\xfe\x00"), "config.json", "damaged"),
    "deep JSON": (write("config.json", b"[" * 100_000), "config.json", "damaged"),
    "a list for an object": (write("config.json", b"[]"), "config.json", "damaged"),
    "a number for an object": (write("config.json", b"3"), "config.json", "damaged"),
    **{f"no {name}": (rewrite(**{name: None}), "config.json", "damaged", name.removeprefix("config__"))
       for name in ("config", "seeds", "env_name", "sweep", "max_steps", "config__algorithm",
                    "config__decay_actor_lr")},
    "a list for the config": (rewrite(config=[]), "config.json", "damaged"),
    "one seed for two": (rewrite(seeds=[42]), "config.json", "damaged"),
    "text for seeds": (rewrite(seeds=["a", "b"]), "config.json", "damaged"),
    "seeds that fall": (rewrite(seeds=[42, 3]), "config.json", "damaged", "42"),
    "seeds without an end": (rewrite(seeds=[0, 10**12]), "config.json", "damaged"),
    "a number for the task": (rewrite(env_name=3), "config.json", "damaged", "env_name"),
    "a task of another version": (rewrite(env_name="hopper-v9"), "'hopper-v9'", "hopper-"),
    "a task without a name": (rewrite(env_name=""), "unknown environment ''"),
    "no task": (change_config('"pointmaze-umaze-v0"', "null"), "without an environment", "--env_name"),
    "a number for the sweep": (rewrite(sweep=3), "config.json", "damaged"),
    "a sweep that does not parse": (rewrite(sweep="beta"), "config.json", "damaged", "beta"),
    "text for the updates": (rewrite(max_steps="many"), "config.json", "damaged"),
    "a list for the algorithm": (rewrite(config__algorithm=["xql"]), "config.json", "damaged"),
    "an unknown algorithm": (rewrite(config__algorithm="zql"), "config.json", "'zql'", "iql, "),
    "an unknown field": (rewrite(config__betta=1), "config.json", "unknown config field 'betta' for xql"),
    "a folder of an older version": (rewrite(columns=None), "damaged or of another version (columns)"),
    "columns of another version": (rewrite(columns={"times": []}), "damaged or of another version"),
    "a list for the columns": (rewrite(columns=[]), "damaged or of another version (columns)"),
    "an older version's environment": (rewrite(env_backend=None), "config.json", "'env_backend'"),
    "text for an environment": (rewrite(env_backend="moon"), "config.json", "env_backend 'moon'"),
    "a number for a switch": (rewrite(legacy_inertia=3), "config.json", "legacy_inertia 3"),
    "no preprocessing.json": (remove("preprocessing.json"), "preprocessing.json: missing"),
    "text for the preprocessing": (write("preprocessing.json", b"?"), "preprocessing.json: damaged"),
    "a list for a number of the preprocessing": (
        lambda run: edit_json(run / "preprocessing.json", reward_scale=[]),
        "preprocessing.json: of another version",
    ),
    "an impossible value": (rewrite(config__beta=-1), "config.json", "beta", "positive"),
    "text for a field": (rewrite(config__beta="high"), "config.json", "beta", "high"),
    "other widths": (rewrite(config__critic_hidden_dims=[16]), "checkpoints/4", "16"),
    "widths of an older version": (rewrite(config__hidden_dims=[8], config__critic_hidden_dims=None,
                                           config__value_hidden_dims=None, config__actor_hidden_dims=None),
                                   "config.json", "damaged or of another version"),
    "another algorithm": (rewrite(config__algorithm="bc"), "config.json"),
    "more seeds than states": (rewrite(seeds=[42, 43]), "checkpoints/4", "no member seed43", "has: seed42"),
    "no checkpoints": (remove("checkpoints"), "no checkpoint"),
    "a file for the checkpoints": (lambda run: (remove("checkpoints")(run), write("checkpoints", b"")(run)),
                                   "checkpoints: Not a directory"),
    "no finished checkpoint": (lambda run: (run / "checkpoints" / "4").rename(run / "checkpoints" / "4.tmp"),
                               "no checkpoint"),
    "an empty checkpoint": (lambda run: (run / "checkpoints" / "5").mkdir(),
                            "checkpoints/5", "checkpoint.json"),
    "a file for a checkpoint": (write("checkpoints/5", b"?"), "checkpoints/5"),
    "no checkpoint.json": (remove("4/checkpoint.json"), "checkpoints/4", "checkpoint.json"),
    "text for checkpoint.json": (write("checkpoints/4/checkpoint.json", b"?"), "checkpoint.json", "not JSON"),
    "a flipped byte of checkpoint.json": (change("checkpoint.json", flip), "checkpoint.json", "damaged"),
    "a list for checkpoint.json": (write("checkpoints/4/checkpoint.json", b"[]"), "checkpoint.json"),
    "a flipped byte": (change("d/*", flip), "checkpoints/4", "damaged", "not as it was written"),
    "half of a file": (change("d/*", halve), "checkpoints/4", "damaged", "not as it was written"),
    "an empty file": (change("d/*", lambda _: b""), "checkpoints/4", "damaged"),
    "a missing file": (remove("checkpoints/4/members/**/d/*"), "checkpoints/4", "is missing"),
    "no member's file": (remove("checkpoints/4/members/seed42"), "checkpoints/4", "is missing"),
    "no members": (remove("checkpoints/4/members"), "checkpoints/4", "is missing"),
    "a checkpoint of an older version": (write_as_before, "checkpoints/4", OLDER),
}  # fmt: skip

# Commands on the run that is as it was, and on what is none.
MISTAKES = {
    "no such run": ("evaluate nowhere", "nowhere", "not the folder of a run"),
    "an empty folder": ("evaluate empty_folder", "empty_folder", "config.json"),
    "a folder of runs": ("evaluate results", "results", "config.json"),
    "a file for a run": ("evaluate good.hdf5", "good.hdf5", "not the folder of a run"),
    "the run's config.json": ("evaluate {run}/config.json", "config.json", "not the folder of a run"),
    "a checkpoint's inside": ("evaluate {run}/checkpoints/4/members", "members", "not the folder of a run"),
    "a run's name that is too long": ("evaluate {long}", "too long"),
    "a step that is not there": ("evaluate {run}/checkpoints/3", "no checkpoint 3 in ", "there are: 4"),
    "a step beyond all numbers": ("evaluate {run}/checkpoints/" + "9" * 30, "no checkpoint", "there are: 4"),
    "a step that is no number": ("evaluate {run}/checkpoints/last", "last"),
    "another task's dimensions": (
        "evaluate {run} --env_name=kitchen-mixed-v0", "kitchen-mixed-v0", "pointmaze-umaze-v0", "60", "9"
    ),
    "a task without a simulator": ("evaluate {run} --env_name=bullet-ant-medium-v0", "bullet-ant-medium-v0"),
    "legacy inertia": ("evaluate {run} --legacy_inertia", "--legacy_inertia", "pointmaze"),
    "no such run to begin with": ("train --seed=43 --checkpoint=nowhere", "nowhere", "no config.json"),
    "members of a run that has others": (
        "train --seed=43 --checkpoint={run}", "checkpoints/4", "no member seed43; it has: seed42"
    ),
    "members of a run of other settings": (
        "train --num_seeds=2 --config.beta=0.7 --checkpoint={run}", "--checkpoint={run}: another run:",
        "config.beta=0.2, here 0.7",
    ),
    "members of a run of other data": (
        "train --checkpoint={run} --dataset=other.npz", "another run", "dataset_fingerprint=", "here"
    ),
    "a checkpoint to begin with, not its run": (
        "train --seed=43 --checkpoint={run}/checkpoints/4", "config.json"
    ),
    "a run that begins with itself": ("train --checkpoint={run}", "this run exists", "--resume"),
    "D4RL's environment": ("evaluate {run} --env_backend=d4rl", "pointmaze-umaze-v0", "D4RL's"),
}  # fmt: skip


@pytest.fixture(scope="module")
def outcomes(place):
    (place.folder / "empty_folder").mkdir()
    write_dataset(place.folder / "other.npz", size=80)
    copies = {}
    for number, (name, (damage, *_)) in enumerate(DAMAGES.items()):
        copy = place.folder / "copies" / f"{number}"
        shutil.copytree(place.run, copy)
        damage(copy)
        copies[name] = (f"evaluate {copy}",)
    bare = place.folder / "copies" / "bare"
    shutil.copytree(place.run, bare)
    shutil.rmtree(bare / "checkpoints")
    copies["nothing to begin with"] = (f"train --seed=43 --checkpoint={bare}",)
    return place.outcomes({**copies, **MISTAKES})


WORDS = {name: words for table in (DAMAGES, MISTAKES) for name, (_, *words) in table.items()} | {
    "nothing to begin with": ["copies/bare: the run has no checkpoint yet"]
}


@pytest.mark.parametrize("name", WORDS)
def test_mistake_ends_with_one_line(place, outcomes, name):
    assert_told(outcomes[name], [word.replace("{run}", str(place.run)) for word in WORDS[name]])


def test_alone_they_end_alike(place, outcomes):
    place.assert_same_alone(MISTAKES, outcomes)


def test_more_than_there_was_is_no_mistake(place):
    copy = place.folder / "copies" / "more"
    shutil.copytree(place.run, copy)
    (copy / "checkpoints" / "notes").mkdir()
    (copy / "checkpoints" / "4" / "more.txt").write_text("of the user's")
    (copy / "pictures").mkdir()
    before = contents(copy)
    run = place.run_of(f"evaluate {copy}")
    outcome = place.server.run(run.arguments, place.folder, main=run.main)
    assert (outcome.code, outcome.err) == (0, "")
    assert contents(copy) == before


def test_another_process_is_at_the_run(place):
    copy = place.folder / "locked"
    shutil.copytree(place.results, copy)
    run = copy / place.run.relative_to(place.results)
    (run / "summary.json").unlink()  # as if it had not ended
    before = contents(run)
    with (run / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        outcome = place.main("--resume", f"--save_dir={copy}")
    assert_told(outcome, ["another process is at this run", run.name])
    assert contents(run) == before


def test_a_resumption_from_no_checkpoint_that_is_fit(place, tmp_path):
    shutil.copytree(place.results, tmp_path / "results")
    run = tmp_path / "results" / place.run.relative_to(place.results)
    (run / "summary.json").unlink()
    change("d/*", flip)(run)
    before = contents(run / "checkpoints")
    outcome = place.main("--resume", f"--save_dir={tmp_path / 'results'}")
    assert_told(outcome, ["checkpoints/4", "damaged", "delete", "--save_dir"])
    assert contents(run / "checkpoints") == before


def test_a_resumption_from_a_checkpoint_of_an_older_version(place, tmp_path):
    """One line says which version wrote it, and how to go on; nothing is set aside."""
    shutil.copytree(place.results, tmp_path / "results")
    run = tmp_path / "results" / place.run.relative_to(place.results)
    (run / "summary.json").unlink()
    write_as_before(run)
    before = contents(run / "checkpoints")
    outcome = place.main("--resume", f"--save_dir={tmp_path / 'results'}")
    assert_told(outcome, ["checkpoints/4", OLDER, "all members in one file", "use that one", f"delete {run}"])
    assert contents(run / "checkpoints") == before


@pytest.mark.slow
def test_other_data_under_the_same_name_is_another_run(place):
    """--resume finds no run of that data, and leaves the one of other data alone."""
    changed = place.folder / "changed" / "good.hdf5"
    changed.parent.mkdir()
    content = bytearray((place.folder / "good.hdf5").read_bytes())
    content[-2] ^= 1
    changed.write_bytes(content)
    before = contents(place.run)
    outcome = place.main("--resume", f"--dataset={changed}", "--eval_episodes=0")
    assert (outcome.code, outcome.err) == (0, "")
    assert str(place.run) not in outcome.out
    assert contents(place.run) == before
