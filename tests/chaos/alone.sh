#!/bin/sh
# Runs a command with a network and mounts of its own, where there is root for it: packets are dropped and names written in no file but its own, and nothing is left.
# shellcheck disable=SC2016 # the inner shell expands it
prepare='names=$(mktemp) && cp /etc/hosts "$names" && chmod 644 "$names" && mount --bind "$names" /etc/hosts && rm "$names" && ip link set lo up'
if [ "$(id -u)" = 0 ] && unshare --mount --net sh -c "$prepare" 2>/dev/null; then
  exec unshare --mount --net sh -c "$prepare && exec \"\$@\"" alone env SIGNALBOX_CHAOS_ALONE=yes "$@"
fi
exec "$@"
