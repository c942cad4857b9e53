#!/bin/sh
# `make up` asks this first: can the stack be started here? One line for each thing that is in the way, and what to do about it.
#
#   preflight.sh [options of docker compose, such as --env-file .env.light]
#
# COMPOSE     the command, default `docker compose`
# PROFILE     systems that are asked for, as with `make up`
# NEED_MB     memory that Docker must have, in MB; README.md has the measured figures it is made of
# PREFLIGHT   `off` skips all of it
#
# Docker users need nothing else, so this is POSIX sh with POSIX awk, and asks only what Linux, macOS and the BSDs have.
set -u

[ "${PREFLIGHT:-}" = off ] && exit 0

COMPOSE=${COMPOSE:-docker compose}
# The first Compose that knows `required: false` of depends_on.
MIN_COMPOSE=2.20.3
# Free space in GB, an estimate: for the images and for what building ours leaves in Docker's cache. docs/images.md has its parts, and
# says which were measured. Once ours is built, for the data.
FIRST_GB=${FIRST_GB:-10}
LATER_GB=${LATER_GB:-2}
problems=0

problem() {
  problems=$((problems + 1))
  printf '  %s\n' "$1" >&2
}

finish() {
  if [ "$problems" -gt 0 ]; then
    echo "the stack was not started; PREFLIGHT=off make up tries it all the same" >&2
    exit 1
  fi
  exit 0
}

# ── Compose ──
if ! version=$($COMPOSE version --short 2>/dev/null); then
  if command -v "${COMPOSE%% *}" >/dev/null 2>&1; then
    problem "Compose: \`$COMPOSE\` does not work; version $MIN_COMPOSE or newer is needed (https://docs.docker.com/compose/install/)"
  else
    problem "Docker: there is no program ${COMPOSE%% *} (https://docs.docker.com/get-docker/)"
  fi
  finish
fi
version=${version#v}
if ! printf '%s %s\n' "$version" "$MIN_COMPOSE" | awk '{
    split($1, is, /[.+-]/); split($2, least, ".")
    for (i = 1; i <= 3; i++) if (is[i] + 0 != least[i] + 0) exit !(is[i] + 0 > least[i] + 0)
  }'; then
  problem "Compose: version $version is too old, $MIN_COMPOSE or newer is needed (https://docs.docker.com/compose/install/)"
fi

# ── systems that do not go together ──
profile=" $(printf '%s' "${PROFILE:-}" | tr ',' ' ') "
case $profile in
  *" collector "*)
    for system in sampling tenants; do
      case $profile in
        *" $system "*) problem "PROFILE: $system is Alloy's work, and with collector the signals do not pass Alloy: choose one of the two" ;;
      esac
    done ;;
esac

# ── Docker ──
if ! said=$(docker info --format '{{.MemTotal}} {{.DockerRootDir}}' 2>&1); then
  case $said in
    *"ermission denied"*)
      problem "Docker: it runs, but you may not use it: add yourself to its group (sudo usermod -aG docker \"\$USER\", then log in again)" ;;
    *)
      problem "Docker: it does not run: start Docker Desktop, or \`sudo systemctl start docker\`" ;;
  esac
  finish
fi
# Warnings of the daemon go to standard error too; the answer is the last line.
said=$(printf '%s\n' "$said" | tail -n 1)
memory_mb=$(printf '%s\n' "${said%% *}" | awk '{ printf "%d", $1 / 1048576 }')
root=${said#* }

if [ "$memory_mb" -gt 0 ] && [ "$memory_mb" -lt "${NEED_MB:-0}" ]; then
  problem "memory: Docker has $memory_mb MB, the stack needs $NEED_MB: give it more (Docker Desktop: Settings, Resources) or \`make up-light\`"
fi

# Where Docker runs in a machine of its own, its disk cannot be seen from here.
if [ -d "$root" ]; then
  image=${SIGNALBOX_IMAGE:-$(sed -n 's/^SIGNALBOX_IMAGE=//p' .env 2>/dev/null)}
  need_gb=$FIRST_GB
  docker image inspect "$image" >/dev/null 2>&1 && need_gb=$LATER_GB
  free_gb=$(df -Pk "$root" 2>/dev/null | awk 'NR == 2 { printf "%d", $4 / 1048576 }')
  if [ -n "$free_gb" ] && [ "$free_gb" -lt "$need_gb" ]; then
    problem "disk: $free_gb GB are free at $root, $need_gb are needed: \`docker system prune\` frees some"
  fi
fi

# ── ports ──

# Service, address and port of each port that Compose would publish.
published() {
  $COMPOSE "$@" config 2>/dev/null | awk '
    /^[a-z]/ { inside = ($1 == "services:"); next }
    !inside { next }
    /^  [^ ].*:$/ { service = $1; sub(/:$/, "", service); address = "" }
    /^ +host_ip:/ { address = $2 }
    /^ +published:/ { port = $2; gsub(/"/, "", port); print service, (address == "" ? "0.0.0.0" : address), port; address = "" }
  '
}

# listener ADDRESS PORT: who listens there, in words; nothing if nobody does.
listener() {
  if [ -r /proc/net/tcp ]; then
    # Linux: the kernel's table has the socket and its user; the process is the one that has the socket open. Only what listens on
    # the same address, or on all of them, is in the way.
    case $1 in
      127.0.0.1) local='^(0100007F|0*|0*FFFF00000100007F):' ;;
      *) local=':' ;;
    esac
    socket=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null |
      awk -v local="$local" -v port="$(printf ':%04X$' "$2")" '$2 ~ local && $2 ~ port && $4 == "0A" { print $10, $8; exit }')
    [ -n "$socket" ] || return 0
    for fd in /proc/[0-9]*/fd/*; do
      if [ "$(readlink "$fd" 2>/dev/null)" = "socket:[${socket% *}]" ]; then
        pid=${fd#/proc/}
        pid=${pid%%/*}
        echo "process $pid ($(cat "/proc/$pid/comm" 2>/dev/null))"
        return 0
      fi
    done
    echo "a process of the user with id ${socket#* }"
  elif command -v lsof >/dev/null 2>&1; then
    # macOS and the BSDs. Another user's sockets are not shown.
    lsof -nP "-iTCP:$2" -sTCP:LISTEN -Fpc 2>/dev/null |
      awk '/^p/ { pid = substr($0, 2) } /^c/ { print "process " pid " (" substr($0, 2) ")"; exit }'
  fi
}

project=$($COMPOSE "$@" config 2>/dev/null | awk '/^name:/ { print $2; exit }')
ports=$(published "$@")
while read -r service address port; do
  [ -n "$service" ] || continue
  twin=$(printf '%s\n' "$ports" | awk -v port="$port" '$3 == port { print $1; exit }')
  if [ "$twin" != "$service" ]; then
    problem "port $port: wanted by both $twin and $service: change one of them in .env"
    continue
  fi
  # Containers first: their ports are held by Docker's own processes, which would be no answer.
  container=$(docker ps --filter "publish=$port" --format '{{.Names}} {{.Label "com.docker.compose.project"}}' | head -n 1)
  case $container in
    "") owner=$(listener "$address" "$port") ;;
    *" $project") continue ;; # this stack, which is up already
    *) owner="container ${container%% *}" ;;
  esac
  if [ -n "$owner" ]; then
    variable=$(awk -F= -v p="$port" '/^[A-Z_]+_PORT=/ && $2 == p { print $1; exit }' .env 2>/dev/null)
    problem "port $port on $address, wanted for $service, is taken by $owner: stop that, or change ${variable:-it} in .env"
  fi
done <<EOF
$ports
EOF
finish
