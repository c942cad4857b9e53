#!/bin/sh
# The drills while the stack is up: list, start NUMBER, hint, answer 'FIELD=VALUE …', stop.
# A container (`drill` in docker-compose.yml) keeps what is on and plays it. What a drill changes of the stack itself is done from here, because no
# container may. COMPOSE is how Docker Compose is called; COMPOSE_FILE are the files that the stack was started with.
set -eu

compose=${COMPOSE:-docker compose}
files=${COMPOSE_FILE:-docker-compose.yml}
# Started by `make up-light`, the stack has one Mimir, and settings of its own.
if test -n "$($compose ps --quiet --all mimir-1)" && test -z "$($compose ps --quiet --all mimir-2)"; then
  compose="$compose --env-file .env --env-file .env.light"
  light=yes
else
  light=
fi

in_drill() { $compose exec -T drill signalboxctl drill "$@" </dev/null; }

# Each line: a file to lay over the stack's own, or -; and what Compose is told.
change() {
  printf '%s\n' "$1" | while read -r overlay words; do
    test -n "$overlay" || continue
    if test "$overlay" != -; then overlay=$files:$overlay; else overlay=$files; fi
    # shellcheck disable=SC2086 # words
    COMPOSE_FILE=$overlay $compose --progress quiet $words </dev/null || exit 1
  done
}

COMPOSE_FILE=$files $compose --progress quiet up --detach --no-deps drill
case $1 in
  start)
    in_drill "$@"
    begin=$(in_drill compose begin)
    if test -n "$light" && printf '%s' "$begin" | grep -q mimir-2; then
      in_drill stop >/dev/null
      echo "this drill needs all of the stack: make up" >&2
      exit 1
    fi
    change "$begin" || {
      change "$(in_drill compose heal)" || true
      in_drill stop
      exit 1
    }
    ;;
  answer)
    heal=$(in_drill compose heal)
    in_drill "$@" && change "$heal"
    ;;
  stop)
    heal=$(in_drill compose heal)
    in_drill "$@"
    change "$heal"
    ;;
  *) in_drill "$@" ;;
esac
