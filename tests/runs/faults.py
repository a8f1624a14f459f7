"""Runs a main on a machine that lacks something: python faults.py FAULT[=NUMBER] MAIN.py ARGUMENTS.

no_locks        a file system without flock, as some network ones are
no_lock_server  one whose locks are refused
no_folder_sync  one that cannot put a folder's names on the disk
file_bytes=N    files may have N bytes, as where a quota or the disk is full
memory=N        N bytes of addresses
open_files=N    N open files
"""

import errno
import fcntl
import os
import resource
import runpy
import stat
import sys
from pathlib import Path


def refuse_locks(number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    fcntl.flock = flock


def refuse_folder_syncs(_):
    sync = os.fsync

    def fsync(file):
        number = file if isinstance(file, int) else file.fileno()
        if stat.S_ISDIR(os.fstat(number).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        sync(number)

    os.fsync = fsync


def limit(kind):
    return lambda number: resource.setrlimit(kind, (number, resource.getrlimit(kind)[1]))


FAULTS = {
    "no_locks": lambda _: refuse_locks(errno.ENOSYS),
    "no_lock_server": lambda _: refuse_locks(errno.ENOLCK),
    "no_folder_sync": refuse_folder_syncs,
    "file_bytes": limit(resource.RLIMIT_FSIZE),
    "memory": limit(resource.RLIMIT_AS),
    "open_files": limit(resource.RLIMIT_NOFILE),
}


if __name__ == "__main__":
    name, _, number = sys.argv[1].partition("=")
    FAULTS[name](int(number or 0))
    sys.argv = sys.argv[2:]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")
