"""What may happen to a run's files: bytes flipped, cut, doubled; files lost, exchanged, or of another run."""

import os
import shutil
import stat

CHECKPOINTS, REPLAY = "checkpoints", "replay"


def files_of(run):
    """The run's files but for the lock and TensorBoard's, which nothing reads."""
    found = [path for path in sorted(run.rglob("*")) if path.is_file() and not path.is_symlink()]
    return [path for path in found if path.name != ".lock" and "tb" not in path.relative_to(run).parts]


def choose(run, generator):
    """One of the files; as often one beside the checkpoints as one in them, which are many more."""
    found = files_of(run)
    inside = [path for path in found if path.relative_to(run).parts[0] == CHECKPOINTS]
    outside = [path for path in found if path not in inside]
    pools = [pool for pool in (inside, outside) if pool]
    return generator.choice(generator.choice(pools)) if pools else None


def on_a_file(change):
    """An attack that changes one file; it says which, or None if there is none."""

    def attack(run, others, generator):
        path = choose(run, generator)
        if path is None:
            return None
        change(path, generator)
        return f"{change.__name__} {path.relative_to(run)}"

    attack.__name__ = change.__name__
    return attack


@on_a_file
def flip(path, generator):
    content = bytearray(path.read_bytes())
    for _ in range(generator.choice([1, 1, 1, 8])):
        if content:
            content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    path.write_bytes(content)


@on_a_file
def cut(path, generator):
    os.truncate(path, generator.randrange(path.stat().st_size + 1))


@on_a_file
def double(path, generator):
    content = path.read_bytes()
    first, last = sorted(generator.randrange(len(content) + 1) for _ in range(2))
    path.write_bytes(content[:last] + content[first:last] + content[last:])


@on_a_file
def drop_bytes(path, generator):
    content = path.read_bytes()
    first, last = sorted(generator.randrange(len(content) + 1) for _ in range(2))
    path.write_bytes(content[:first] + content[last:])


@on_a_file
def zeros(path, generator):
    """What a loss of power leaves on some file systems."""
    path.write_bytes(bytes(path.stat().st_size))


@on_a_file
def remove(path, generator):
    path.unlink()


@on_a_file
def edit_a_number(path, generator):
    """As a text editor would: a digit becomes another."""
    content = bytearray(path.read_bytes())
    digits = [index for index, byte in enumerate(content) if chr(byte).isdigit()]
    if digits:
        content[generator.choice(digits)] = ord(generator.choice("0123456789"))
    path.write_bytes(content)


@on_a_file
def not_a_file(path, generator):
    path.unlink()
    kind = generator.choice(["pipe", "folder", "link to nowhere"])
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("nowhere")


def exchange(run, others, generator):
    """A file takes the place of one of the same name, or kind, of another run, stage or checkpoint."""
    path = choose(run, generator)
    if path is None:
        return None
    theirs = [
        other
        for folder in (run, *others)
        for other in files_of(folder)
        if other.suffix == path.suffix and other != path
    ]
    same = [other for other in theirs if other.name == path.name]
    other = generator.choice(same or theirs or [path])
    content = other.read_bytes()
    path.write_bytes(content)
    return f"exchange {path.relative_to(run)}"


def checkpoint_of_another(run, others, generator):
    """A checkpoint under another step's name, or another run's under any."""
    found = [
        path for folder in (run, *others) for path in (folder / CHECKPOINTS).glob("[0-9]*") if path.is_dir()
    ]
    if not found:
        return None
    source = generator.choice(found)
    target = run / CHECKPOINTS / generator.choice([source.name, "2", "4", "11", "12", "0012", "999"])
    if target == source:
        return None
    if target.is_dir():
        shutil.rmtree(target)
    target.unlink(missing_ok=True)
    shutil.copytree(source, target, ignore=no_files)
    return f"checkpoint_of_another {target.name} from {source.name}"


def no_files(folder, names):
    """Pipes, which an attack before may have left, cannot be copied."""
    return [
        name
        for name in names
        if not os.path.exists(f"{folder}/{name}") or stat.S_ISFIFO(os.stat(f"{folder}/{name}").st_mode)
    ]


def remove_a_folder(run, others, generator):
    folders = [path for path in sorted(run.rglob("*")) if path.is_dir() and path.name != "tb"]
    if not folders:
        return None
    path = generator.choice(folders)
    shutil.rmtree(path)
    if generator.random() < 0.2:
        path.write_bytes(b"")  # a file of that name
    return f"remove_a_folder {path.relative_to(run)}"


def leave_litter(run, others, generator):
    """What killed processes and editors leave."""
    name = generator.choice(
        ["metrics.csv.tmp", "config.json~", "checkpoints/7.tmp", "checkpoints/x", "summary.json.tmp"]
    )
    path = run / name
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        path.write_bytes(generator.randbytes(30))
    return f"leave_litter {name}"


ATTACKS = (
    flip, flip, cut, double, drop_bytes, zeros, remove, edit_a_number, not_a_file, exchange, exchange,
    checkpoint_of_another, remove_a_folder, leave_litter,
)  # fmt: skip
