"""Says which packages are newer than those of requirements.txt, and what breaks with them: `make update`.

  python benchmarks/newest.py [ARGUMENT OF PYTEST ...]

It changes the packages of its environment, so it needs one of its own, with '.[dev]' installed without
requirements.txt. It tries these, the newest that setup.py admits, and then the newest of all.
"""

import re
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHECKS = {
    "ruff format": ("ruff", "format", "--check", "."),
    "ruff check": ("ruff", "check", "."),
    "mypy": ("mypy",),
    "tests": ("pytest", "--tb=no", "--numprocesses=2", "--dist=loadfile", "-m", "not slow and not release"),
}


def run(*command: str) -> tuple[int, list[str]]:
    """Runs a module of this environment; returns its exit code and the lines it prints."""
    process = [sys.executable, "-m", *command]
    ended = subprocess.run(process, cwd=ROOT, capture_output=True, text=True, check=False)
    return ended.returncode, (ended.stdout + ended.stderr).strip().splitlines()


def versions(lines: Sequence[str]) -> dict[str, str]:
    """Returns versions by name, from lines NAME==VERSION."""
    pairs = (line.split("==") for line in lines if "==" in line)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pairs}


def installed() -> dict[str, str]:
    return versions(run("pip", "freeze", "--exclude-editable")[1])


def print_changes(old: dict[str, str], new: dict[str, str]) -> None:
    changed = [name for name in new if new[name] != old.get(name)]
    said = [f"{name} {old.get(name, 'absent')} -> {new[name]}" for name in changed]
    print(f"  {len(changed)} packages: {', '.join(said)}")


def print_broken(arguments: Sequence[str]) -> bool:
    """Prints what the checks say; returns whether one fails."""
    failed = False
    for name, command in CHECKS.items():
        code, lines = run(*command, *(arguments if name == "tests" else ()))
        print(f"  {name}: {'fails' if code else 'passes'}", flush=True)
        if code:
            failed = True
            said = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
            print(*(f"    {line}" for line in said or lines[-5:]), sep="\n")
    return failed


def main() -> int:
    admitted = installed()
    print(f"Python {sys.version.split()[0]}; newer than in requirements.txt, and admitted by setup.py:")
    print_changes(versions((ROOT / "requirements.txt").read_text().splitlines()), admitted)
    failed = print_broken(sys.argv[1:])

    needed = metadata.requires("xql_jax") or []
    needed = [line for line in needed if "extra ==" not in line or re.search("extra == .dev.", line)]
    names = {re.split(r"[^\w.-]", line)[0] for line in needed}
    code, lines = run("pip", "install", "--quiet", "--upgrade", *sorted(names))
    print("Newer than setup.py admits:")
    print_changes(admitted, installed())
    if code:
        print("  pip fails:", *lines[-5:], sep="\n    ")
    return int(print_broken(sys.argv[1:]) or failed or code != 0)


if __name__ == "__main__":
    sys.exit(main())
