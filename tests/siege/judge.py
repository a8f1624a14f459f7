"""The one judge of a siege: the numbers of a run that nobody disturbed, or one line with nothing lost."""

import csv
import dataclasses
import hashlib
import re
import signal
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from xql_jax.errors import UserError

READER = ocp.StandardCheckpointer()
SECONDS = 60  # that a siege may take
LONGEST_LINE = 600
LOGS = ("metrics.csv", "evaluations.csv", "bellman_errors.csv")


class Hang(BaseException):
    """No Exception: nothing is to take it for an error of its own."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    kind: str  # "same numbers", "one line", or what is wrong
    words: str = ""

    @property
    def is_good(self) -> bool:
        return self.kind in ("same numbers", "one line", "left out")


def judge(
    run: Path, work: Callable[[], object], result: Callable[[], object], expected: list[object]
) -> Verdict:
    """Does the work on a run's folder and judges what came of it.

    Args:
        result: what the work came to, read from the folder.
        expected: what it may have come to.
    """
    before = contents(run)
    signal.signal(signal.SIGALRM, _raise_hang)
    signal.alarm(SECONDS)
    try:
        work()
        found = result()
    except UserError as error:
        signal.alarm(0)
        line = str(error)
        if not line or len(line) > LONGEST_LINE or not line.isprintable():
            return Verdict("no clear line", line)
        lost = before - contents(run)
        return Verdict("lost", f"{line}: {sum(lost.values())} file(s)") if lost else Verdict("one line", line)
    except Hang:
        return Verdict("hang")
    except Exception:
        return Verdict("traceback", traceback.format_exc()[-1500:])
    finally:
        signal.alarm(0)
    return Verdict("same numbers") if found in expected else Verdict("other numbers", str(found)[:500])


def contents(run: Path) -> Counter:
    """How often which content is there, whatever its file is called.

    Aside from config.json, in which each start is noted, and rows, which only become more.
    """
    found = Counter()
    for path in sorted(run.rglob("*")):
        changes = (
            path.name in ("config.json", ".lock") or path.suffix in (".csv", ".tmp") or "tb" in path.parts
        )
        if path.is_file() and not path.is_symlink() and not changes:
            found[hashlib.sha256(path.read_bytes()).hexdigest()] += 1
    return found


def rows(path: Path) -> list[list[str]] | None:
    """A CSV file's rows without seconds; None if there is no file."""
    if not path.exists():
        return None
    with path.open(newline="") as file:
        found = list(csv.reader(file))
    end = -1 if found and found[0][-1] == "seconds" else None
    return [row[:end] for row in found]


def numbers(run: Path) -> dict[str, object]:
    """All numbers of a finished run: rows, and every byte of its last checkpoint's arrays."""
    last = max(checkpoints_of(run), key=lambda path: int(path.name))
    arrays = {}
    for member in sorted((last / "members").iterdir()):
        for path, leaf in jax.tree_util.tree_flatten_with_path(READER.restore(member))[0]:
            content = np.ascontiguousarray(leaf).tobytes()
            arrays[f"{member.name}{jax.tree_util.keystr(path)}"] = hashlib.sha256(content).hexdigest()
    return {"step": last.name, "arrays": arrays, **logs(run)}


def logs(run: Path) -> dict[str, object]:
    return {name: rows(run / name) for name in LOGS}


def checkpoints_of(run: Path) -> list[Path]:
    return [
        path for path in sorted((run / "checkpoints").glob("*")) if re.fullmatch("0|[1-9][0-9]*", path.name)
    ]


def _raise_hang(*_: object) -> None:
    raise Hang
