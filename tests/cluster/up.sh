#!/usr/bin/env bash
# A real SLURM on this machine for the tests: munge, MariaDB, slurmdbd, slurmctld and three virtual nodes.
#
#   tests/cluster/up.sh      as root, on Debian or Ubuntu; installs what is missing, and may be given again
#   tests/cluster/down.sh    stops what this started, and nothing else
#
# node3 is in the partition `blind`: it has an empty disk of its own at $ROOT/hidden, as a node has that does not mount
# a shared one. Waiting times are short: SLURM's defaults make a requeued job wait for two minutes.
set -euo pipefail
cd "$(dirname "$0")"
. ./common.sh
[ "$(id -u)" = 0 ] || die "must run as root"
[ -f "$ETC/slurm.conf" ] && ! grep -q "$MARK" "$ETC/slurm.conf" && die "$ETC/slurm.conf is not ours; not touched"

PACKAGES=(munge slurmctld slurmd slurmdbd slurm-client mariadb-server-core mariadb-client-core)
MISSING=()
for package in "${PACKAGES[@]}"; do
  dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null | grep -qx installed || MISSING+=("$package")
done
if [ ${#MISSING[@]} -gt 0 ]; then
  say "installing ${MISSING[*]}"
  POLICY=/usr/sbin/policy-rc.d # no daemon starts by itself
  [ -e $POLICY ] || { printf '#!/bin/sh\nexit 101\n' > $POLICY; chmod 755 $POLICY; trap 'rm -f $POLICY' EXIT; }
  export DEBIAN_FRONTEND=noninteractive
  apt-get -qq -o DPkg::Lock::Timeout=300 update
  apt-get -qq -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 install --no-install-recommends "${MISSING[@]}" > /dev/null
fi

mkdir -p "$ETC" "$RUN"
install -d -o slurm -g slurm "$ROOT" "$LOG" "$ROOT/state" "$RUN"
install -d -m 777 "$ROOT/hidden"
VERSION=$(slurmctld -V | grep -oE '[0-9]+\.[0-9]+' | head -n 1)
HOST=$(uname -n)
cat > "$ETC/slurm.conf" << CONF
$MARK
ClusterName=creditlab
SlurmctldHost=${HOST%%.*}(127.0.0.1)
SlurmUser=slurm
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=8
StateSaveLocation=$ROOT/state
SlurmdSpoolDir=$ROOT/spool/%n
SlurmctldPidFile=$RUN/slurmctld.pid
SlurmdPidFile=$RUN/%n.pid
SlurmctldLogFile=$LOG/slurmctld.log
SlurmdLogFile=$LOG/%n.log
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
EnforcePartLimits=ALL
MaxArraySize=1001
ReturnToService=2
KillWait=10
SlurmdTimeout=15
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
NodeName=node[1-$NODES] NodeHostname=${HOST%%.*} NodeAddr=127.0.0.1 Port=[17101-$((17100 + NODES))] CPUs=4 RealMemory=6000 State=UNKNOWN
PartitionName=main Nodes=node[1-2] Default=YES MaxTime=INFINITE DefaultTime=30 State=UP LLN=YES
PartitionName=blind Nodes=node3 MaxTime=60 State=UP
CONF
# slurmd loads a cgroup plugin even where none is used: the way to say "none" depends on its version
NEW=$(printf '%s\n24.05\n' "$VERSION" | sort -V | head -n 1)
printf '%s\nCgroupPlugin=%s\n' "$MARK" "$([ "$NEW" = 24.05 ] && echo disabled || echo cgroup/v1)" > "$ETC/cgroup.conf"
cat > "$ETC/slurmdbd.conf" << CONF
$MARK
AuthType=auth/munge
DbdHost=localhost
SlurmUser=slurm
LogFile=$LOG/slurmdbd.log
PidFile=$RUN/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StorageLoc=creditlab
CONF
chown slurm:slurm "$ETC/slurmdbd.conf"
chmod 600 "$ETC/slurmdbd.conf"

if ! munge_works; then
  [ -s /etc/munge/munge.key ] || (umask 077 && head -c 128 /dev/urandom > /etc/munge/munge.key)
  chown munge:munge /etc/munge/munge.key
  chmod 400 /etc/munge/munge.key
  install -d -o munge -g munge -m 755 /run/munge
  install -d -o munge -g munge -m 711 /var/lib/munge
  install -d -o munge -g munge -m 700 /var/log/munge
  rm -f /run/munge/munged.pid
  runuser -u munge -- munged
  await munged munge_works
  started munged /run/munge/munged.pid
fi

if ! running mariadbd; then
  if [ ! -d "$ROOT/database/mysql" ]; then
    install -d -o slurm -g slurm -m 700 "$ROOT/database"
    mariadb-install-db --no-defaults --user=slurm --datadir="$ROOT/database" --skip-test-db --skip-name-resolve \
      --auth-root-authentication-method=socket --auth-root-socket-user=slurm > "$LOG/mariadb.log" 2>&1
  fi
  setsid mariadbd --no-defaults --user=slurm --datadir="$ROOT/database" --socket="$SOCKET" --skip-networking \
    --pid-file="$RUN/mariadbd.pid" --innodb-buffer-pool-size=64M --innodb-flush-log-at-trx-commit=0 \
    --log-error="$LOG/mariadb.log" < /dev/null > /dev/null 2>&1 &
  await MariaDB sql -e 'create database if not exists creditlab'
  started mariadbd "$RUN/mariadbd.pid"
fi
if ! running slurmdbd; then
  MYSQL_UNIX_PORT=$SOCKET slurmdbd
  await slurmdbd sacctmgr -n -i show cluster
  started slurmdbd "$RUN/slurmdbd.pid"
fi
[ -n "$(sacctmgr -n show cluster creditlab)" ] || sacctmgr -i add cluster creditlab > /dev/null
running slurmctld || start_slurmctld
for number in $(seq "$NODES"); do
  running "node$number" || start_node "node$number"
done

await "every node" nodes_ready
say "ready: $(sinfo -h -N -o '%N=%T' | tr '\n' ' ')"
