#!/bin/bash
# Runs the commands of one fence (standard input) as a reader types them: the first that fails ends it with its status. `make demo` goes on in the background, as in
# a terminal of its own, until the next one or the end; it is ended as by Ctrl-C, and must end by itself. What else was started is removed at the end.
# run.bash FILE-FOR-WHAT-THE-DEMO-SAYS
set -Eeu -o pipefail -m # -m: the demo is a group of its own, which gets the signal as a whole
said=$1
demo=

end_demo() {
  [ -n "$demo" ] || return 0
  local group=$demo
  demo=
  kill -INT -- "-$group"
  wait "$group" || true
  grep -q "^stopping" "$said" && ! grep -q "did not stop as it should" "$said"
}

make() {
  echo "make $*"
  if [ "${1-}" = answer ]; then
    # The page's answer is one of another run: that it is graded is all that can hold.
    command make "$@" 2>&1 | tee "$said.answer" || grep -q "^error: not yet" "$said.answer"
    return
  elif [ "${1-}" != demo ]; then
    command make "$@"
    return
  fi
  end_demo
  command make "$@" >"$said" 2>&1 &
  demo=$!
  for _ in $(seq 600); do
    grep -q "Ctrl-C stops all" "$said" && return
    kill -0 "$demo" 2>/dev/null || break
    sleep 1
  done
  cat "$said" >&2
  return 1
}

at_the_end() {
  local status=$?
  [ ! -e data/drill/run.json ] || command make drill-stop >/dev/null || status=1
  end_demo || status=1
  [ -z "${FENCE_STACK-}" ] || docker compose --profile '*' down --remove-orphans --volumes --timeout 20 >/dev/null 2>&1 || status=1
  exit $status
}
trap at_the_end EXIT

trap 'echo "failed: $BASH_COMMAND"' ERR
# shellcheck disable=SC1091 # the commands
. /dev/stdin
