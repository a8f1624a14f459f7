"""SLURM's commands as submitit calls them, for one machine: every job is a process that begins at once."""

from pathlib import Path

SBATCH = """#!/bin/sh
count() { ls "{folder}" | grep -c "$1\$"; }
if [ $(count log) -ge $(($(count code) + $(cat "{folder}/most"))) ]; then
  echo "sbatch: error: AssocMaxSubmitJobLimit" >&2
  echo "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit)" >&2
  exit 1
fi
number=$(cat "{folder}/next")
echo $((number + 1)) > "{folder}/next"
export SLURM_JOB_ID=$number SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 SLURM_NODEID=0
touch "{folder}/$number.log"
cp "$1" "{folder}/$number.sh"  # as SLURM does: submitit moves its own once this command has ended
(sh "{folder}/$number.sh" > "{folder}/$number.log" 2>&1
 echo $? > "{folder}/$number.code") > /dev/null 2>&1 &
echo "Submitted batch job $number"
"""
SRUN = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do
  case $1 in --output|--error) shift 2;; *) shift;; esac
done
SLURM_PROCID=0 SLURM_LOCALID=0 exec "$@"
"""
SQUEUE = """#!/bin/sh
for file in "{folder}"/*.log; do
  number=$(basename "$file" .log)
  state=RUNNING
  [ -f "{folder}/$number.code" ] && state=COMPLETED
  echo "$number $state"
done
"""


class FakeSlurm:
    """The commands, in a folder for PATH."""

    def __init__(self, folder: Path, most: int = 99):
        self.folder, self.commands = folder, folder / "bin"
        self.commands.mkdir(parents=True)
        (folder / "next").write_text("100\n")
        (folder / "most").write_text(f"{most}\n")  # jobs at a time that the user may have
        for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("squeue", SQUEUE)):
            file = self.commands / name
            file.write_text(text.replace("{folder}", str(folder)))
            file.chmod(0o755)

    @property
    def submitted(self) -> int:
        """Jobs so far."""
        return int((self.folder / "next").read_text()) - 100

    @property
    def logs(self) -> str:
        """What its jobs have printed."""
        return "\n".join(file.read_text() for file in sorted(self.folder.glob("*.log")))
