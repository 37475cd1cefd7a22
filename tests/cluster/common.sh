# What up.sh, down.sh and the tests share: places, and the daemons by name, process number and start time.
export PATH=$PATH:/usr/sbin:/sbin LC_ALL=C
ROOT=${CREDITLAB_CLUSTER:-/var/lib/creditlab-cluster}
RUN=/run/creditlab-cluster
LOG=$ROOT/log
ETC=/etc/slurm
MARK="# written by creditlab's tests/cluster/up.sh"
STARTED=$RUN/started
SOCKET=$RUN/mysql.sock
NODES=3

say() { echo "cluster: $*"; }
die() { say "$*" >&2; tail -n 5 "$LOG"/*.log >&2 2> /dev/null || true; exit 1; }
born() { awk '$3 != "Z" {print $22}' "/proc/$1/stat" 2> /dev/null || true; } # empty if it is gone
running() { # NAME: is the daemon that we started under this name alive?
  local name pid then
  while read -r name pid then; do
    [ "$name" = "$1" ] && [ "$(born "$pid")" = "$then" ] && return 0
  done < <(cat "$STARTED" 2> /dev/null)
  return 1
}
await() { # WHAT COMMAND...: until the command succeeds, a minute at most
  local what=$1; shift
  for _ in $(seq 600); do "$@" > /dev/null 2>&1 && return 0; sleep 0.1; done
  die "$what does not answer"
}
started() { await "$1" test -s "$2"; local pid; pid=$(cat "$2"); echo "$1 $pid $(born "$pid")" >> "$STARTED"; }
stop() { # PID BORN: gently, and then not
  [ "$(born "$1")" = "$2" ] && [ -n "$2" ] || return 0
  kill -TERM "$1" 2> /dev/null || true
  for _ in $(seq 100); do [ "$(born "$1")" = "$2" ] || return 0; sleep 0.1; done
  kill -KILL "$1" 2> /dev/null || true
}
munge_works() { munge -n < /dev/null | unmunge; }
sql() { runuser -u slurm -- mariadb --no-defaults -S "$SOCKET" "$@" < /dev/null; }
start_slurmctld() { rm -f "$RUN/slurmctld.pid"; slurmctld; await slurmctld scontrol ping; started slurmctld "$RUN/slurmctld.pid"; }
start_node() { # node3 cannot see $ROOT/hidden
  install -d "$ROOT/spool/$1"
  rm -f "$RUN/$1.pid"
  if [ "$1" = node3 ]; then
    unshare -m sh -c "mount -t tmpfs blind '$ROOT/hidden' && exec slurmd -N node3"
  else
    slurmd -N "$1"
  fi
  started "$1" "$RUN/$1.pid"
}
nodes_ready() {
  local name state ready=0
  while read -r name state; do
    case $state in
      idle | mixed | allocated | completing) ready=$((ready + 1)) ;;
      down* | drain*) scontrol update "nodename=$name" state=resume ;;
    esac
  done < <(sinfo -h -N -o '%N %T')
  [ "$ready" = "$NODES" ]
}
