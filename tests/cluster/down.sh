#!/usr/bin/env bash
# Cancel all jobs of the tests' SLURM and stop what up.sh started: by process number and start time, so nothing else.
set -euo pipefail
cd "$(dirname "$0")"
. ./common.sh
[ -s "$STARTED" ] || exit 0
if running slurmctld && timeout 10 scontrol ping > /dev/null 2>&1; then
  for _ in 1 2; do # a job that is being requeued survives the first
    timeout 20 squeue -h -o %A | sort -u | xargs -r timeout 20 scancel || true
    for _ in $(seq 150); do [ -z "$(timeout 10 squeue -h)" ] && break || sleep 0.2; done
  done
fi
tac "$STARTED" | while read -r name pid born; do stop "$pid" "$born"; done
for entry in /proc/[0-9]*; do # what a killed slurmd left behind carries our cluster's name
  tr '\0' '\n' < "$entry/environ" 2> /dev/null | grep -qx SLURM_CLUSTER_NAME=creditlab || continue
  pid=${entry#/proc/}
  [ "$pid" = $$ ] || stop "$pid" "$(born "$pid")"
done 2> /dev/null
rm -f "$STARTED"
say stopped
