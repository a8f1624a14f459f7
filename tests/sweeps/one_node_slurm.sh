#!/bin/bash
# A SLURM of this machine alone, on loopback: `one_node_slurm.sh start FOLDER`, `one_node_slurm.sh stop FOLDER`.
# For root on Debian (apt-get install --no-install-recommends slurm-wlm munge). It has no accounting, cgroups or systemd.
# Its commands need SLURM_CONF=FOLDER/slurm.conf. The folder must be readable by all, as munge demands.
set -eu
task=$1 folder=$2

await() {  # NAME COMMAND: until the command succeeds
  for _ in $(seq 150); do eval "$2" > /dev/null 2>&1 && return; sleep 0.2; done
  echo "$1 did not start:"; tail -n 5 "$folder"/*.log; exit 1
}

daemon() {  # NAME COMMAND...
  "${@:2}" > "$folder/$1.log" 2>&1 &
  echo $! > "$folder/$1.process"
}

if [ "$task" = stop ]; then
  for name in slurmd slurmctld munged; do
    process=$(cat "$folder/$name.process" 2> /dev/null) || continue
    kill "$process" 2> /dev/null || true
    for _ in $(seq 50); do kill -0 "$process" 2> /dev/null || break; sleep 0.1; done
    rm "$folder/$name.process"
  done
  exit
fi

mkdir -p "$folder"/{state,spool}
export SLURM_CONF="$folder/slurm.conf"
dd if=/dev/urandom of="$folder/key" bs=128 count=1 2> /dev/null
chmod 400 "$folder/key"
echo CgroupPlugin=cgroup/v1 > "$folder/cgroup.conf"  # 22.05 loads one, and does not use it
case $(slurmd -V) in *" 22."* | *" 23.02"*) ;; *) echo CgroupPlugin=disabled > "$folder/cgroup.conf" ;; esac
host=$(hostname -s)
cat > "$SLURM_CONF" << END
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=26817
SlurmdPort=26818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CommunicationParameters=NoInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,batch_sched_delay=1
KillWait=20
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=main Nodes=$host Default=YES State=UP
END
daemon munged munged --foreground --force --key-file="$folder/key" --socket="$folder/munge.socket" \
  --pid-file="$folder/munged.pid" --log-file="$folder/munge.log" --seed-file="$folder/seed"
await munged "munge --no-input --socket='$folder/munge.socket'"
daemon slurmctld slurmctld -D
await slurmctld "scontrol ping | grep UP"
daemon slurmd slurmd -D
await slurmd "sinfo --noheader --format=%T | grep idle"
