"""Compares the numbers of two checkouts, bit for bit: a change of shape moves no number.

  git worktree add ../old COMMIT        # the version whose numbers are to stay
  python benchmarks/same_numbers.py write --root ../old PART...       parts: configs learners offline online exports figures
  python benchmarks/same_numbers.py compare --root . PART...
  python benchmarks/same_numbers.py compare --root . learners --only '^[a-z0-9_]+$'   cases by regular expression
  python benchmarks/same_numbers.py list PART...                      the names of the cases

The numbers are kept in --baseline (default: ../same_numbers). Writing all of them takes about an hour on two cores.
`compare` prints a line a case, a summary, and ends with 1 if anything differs. --keep FOLDER keeps the runs and values
of the other side there. Equal programs are compiled once for all (cache).

What is equal: values (metrics, rows of the CSV files, actions, figures' tables) by name, to the bit; leaves of states as a
multiset of (shape, type, digest), so that renamed fields do not matter. New leaves and new names are only noted.
"""

# ruff: noqa: E501
import argparse
import collections
import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numbers_of_configs
import numbers_of_learners
import numbers_of_runs
import numpy as np
import workshop

PARTS = ("configs", "learners", "offline", "online", "exports", "figures")


def baseline():
    """The folder of the numbers that are to stay; the processes that collect have it from the first one."""
    return Path(os.environ["SAME_NUMBERS"])


def collect(part, root, only, out):
    """Runs in a process whose xql_jax is the root's: writes out/CASE.npz, or out/CASE.error."""
    import xql_jax

    assert Path(xql_jax.__file__).resolve().is_relative_to(Path(root).resolve()), xql_jax.__file__
    is_writing = os.environ.get("SAME_NUMBERS_WRITES") == "1"
    module = {"configs": numbers_of_configs, "learners": numbers_of_learners}.get(part, numbers_of_runs)
    cases = getattr(module, f"{part}_cases")() if is_writing else cases_of(part)
    if is_writing:
        (Path(out) / "cases.json").write_text(json.dumps(cases, indent=1))
    for name, case in cases.items():
        stem = Path(out) / file_name(name)
        if (only and not re.search(only, name)) or (
            is_writing and stem.with_name(stem.name + ".npz").exists()
        ):
            continue
        started = time.perf_counter()
        try:
            folder = Path(out) / "runs" / file_name(name)
            folder.mkdir(parents=True)
            shop = workshop.Workshop(root, folder)
            values = getattr(module, f"collect_{part}")(case, shop)
            np.savez_compressed(
                stem.with_name(stem.name + ".npz"), **{k: np.asarray(v) for k, v in values.items()}
            )
        except Exception:
            stem.with_name(stem.name + ".error").write_text(traceback.format_exc()[-3000:])
        if part == "learners":
            import jax

            jax.clear_caches()
        print(f"{part}: {name}: {time.perf_counter() - started:.1f} s", file=sys.stderr, flush=True)


def cases_of(part):
    """The cases that have a baseline."""
    folder = baseline() / part
    cases = json.loads((folder / "cases.json").read_text())
    return {name: case for name, case in cases.items() if (folder / f"{file_name(name)}.npz").exists()}


def file_name(name):
    return re.sub(r"[^A-Za-z0-9_.,=+-]", "~", name)


def start_collecting(part, root, only, out, write=False):
    root = Path(root).resolve()
    environment = {
        k: v
        for k, v in os.environ.items()
        if k not in ("XLA_FLAGS", "PYTHONPATH") and not k.startswith("JAX_")
    }
    environment |= {
        "PYTHONPATH": os.pathsep.join((str(root), str(root / "tests" / "envs"))),
        "JAX_PLATFORMS": "cpu",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "JAX_COMPILATION_CACHE_DIR": str(baseline() / "cache"),
        "SAME_NUMBERS_WRITES": str(int(write)),
    }
    command = [sys.executable, __file__, "collect", part, str(root), only or "", str(out)]
    return subprocess.run(
        command,
        cwd=root,
        env=environment,
        stderr=None if sys.stderr.isatty() or write else subprocess.DEVNULL,
    )


def compare(part, root, only, keep):
    with contextlib.ExitStack() as stack:
        out = (
            Path(keep) / part
            if keep
            else Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="same-numbers-")))
        )
        if keep:
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir(parents=True)
        done = start_collecting(part, root, only, out)
        cases = [name for name in cases_of(part) if not only or re.search(only, name)]
        differing = 0
        for name in cases:
            lines, notes = compare_case(part, name, out)
            differing += bool(lines)
            words = "; ".join(notes)
            if lines:
                print(f"{part}: {name}: DIFFERS" + (f" ({words})" if words else ""))
                print("\n".join(f"    {line}" for line in lines[:12]))
                if len(lines) > 12:
                    print(f"    ... and {len(lines) - 12} more")
            else:
                print(f"{part}: {name}: equal" + (f" ({words})" if words else ""))
        print(
            f"{part}: {len(cases) - differing} of {len(cases)} cases equal"
            + (f"; exit {done.returncode}" if done.returncode else "")
        )
        return differing or done.returncode


def compare_case(part, name, out):
    """Returns the lines of what differs, and notes."""
    stem = file_name(name)
    if (out / f"{stem}.error").exists():
        return ["failed: " + (out / f"{stem}.error").read_text().strip().replace("\n", "\n        ")], []
    if not (out / f"{stem}.npz").exists():
        return ["was not reached"], []
    old, new = (workshop.load(folder / f"{stem}.npz") for folder in (baseline() / part, out))
    lines, notes = [], []
    for key in old:
        if not key.startswith("value/"):
            continue
        if key not in new:
            lines.append(f"{key[6:]}: missing")
        elif not same(old[key], new[key]):
            lines.append(f"{key[6:]}: {difference(old[key], new[key])}")
    if extra := [key[6:] for key in new if key.startswith("value/") and key not in old]:
        notes.append(f"new names: {', '.join(extra[:5])}{' ...' if len(extra) > 5 else ''}")
    notes += [str(new[key]) for key in new if key.startswith("note/")]
    leaf_lines, leaf_notes = compare_leaves(of_leaves(old), of_leaves(new))
    return lines + leaf_lines, notes + leaf_notes


def of_leaves(values):
    return {key[5:]: value for key, value in values.items() if key.startswith("leaf/")}


def same(old, new):
    if old.dtype.kind in "US" or new.dtype.kind in "US":
        return old.shape == new.shape and bool((old == new).all())
    return old.shape == new.shape and old.dtype == new.dtype and old.tobytes() == new.tobytes()


def difference(old, new):
    if old.shape != new.shape:
        return f"shape {old.shape} -> {new.shape}"
    if old.dtype.kind in "US" or new.dtype.kind in "US":
        try:
            first = np.array([float(x or "nan") for x in old.ravel()])
            second = np.array([float(x or "nan") for x in new.ravel()])
        except ValueError:
            place = int((old.ravel() != new.ravel()).argmax())
            return f"{old.ravel()[place]!r} -> {new.ravel()[place]!r}"
    else:
        first, second = old.ravel().astype(np.float64), new.ravel().astype(np.float64)
    words = "" if old.dtype == new.dtype else f"type {old.dtype} -> {new.dtype}, "
    unequal = ~((first == second) | (np.isnan(first) & np.isnan(second)))
    if not unequal.any():
        return words + "equal numbers of other type or spelling"
    with np.errstate(all="ignore"):
        relative = np.abs(first - second) / np.maximum(np.maximum(np.abs(first), np.abs(second)), 1e-12)
    place = int(np.where(unequal, np.nan_to_num(relative, nan=np.inf), -1).argmax())
    return (
        f"{words}{unequal.sum()} of {unequal.size} numbers differ, by up to {relative[place]:.2g} of their size "
        f"({first[place]:.9g} -> {second[place]:.9g}, first at {int(unequal.argmax())})"
    )


def digest(array):
    array = np.ascontiguousarray(array)
    return array.shape, str(array.dtype), hashlib.sha256(array.tobytes()).hexdigest()[:24]


def compare_leaves(old, new):
    have = collections.Counter(digest(leaf) for leaf in new.values())
    missing = []
    for path, leaf in sorted(old.items()):
        mark = digest(leaf)
        if have[mark] == 0:
            missing.append(path)
        elif leaf.ndim:  # numbers, such as counts, may be kept once
            have[mark] -= 1
    if not missing:
        more = len(new) - len(old)
        return [], [f"{more:+d} leaves"] if more else []
    lines = []
    for path in missing:
        twin = new.get(path)
        if twin is None:
            lines.append(f"leaf {path} {old[path].dtype}{list(old[path].shape)}: no equal leaf")
        else:
            lines.append(f"leaf {path}: {difference(old[path], twin)}")
    lines.insert(0, f"{len(missing)} of {len(old)} leaves have no equal one")
    return lines, []


def main():
    if len(sys.argv) > 1 and sys.argv[1] == "collect":
        collect(sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5])
        return 0
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("write", "compare", "list"))
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--root")
    parser.add_argument("--only", help="regular expression: cases whose name has it")
    parser.add_argument(
        "--baseline", default=os.environ.get("SAME_NUMBERS", "../same_numbers"), help="folder of the numbers"
    )
    parser.add_argument("--keep", help="folder for the values and runs of this side")
    options = parser.parse_args()
    os.environ["SAME_NUMBERS"] = str(Path(options.baseline).resolve())
    failed = 0
    for part in options.parts:
        if options.action == "list":
            print("\n".join(f"{part}: {name}" for name in cases_of(part)))
        elif options.action == "compare":
            failed += bool(compare(part, options.root, options.only, options.keep))
        else:
            out = baseline() / part
            out.mkdir(parents=True, exist_ok=True)
            start_collecting(part, options.root, options.only, out, write=True)
            shutil.rmtree(out / "runs", ignore_errors=True)
            for error in out.glob("*.error"):
                failed = 1
                print(error.name, error.read_text())
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
