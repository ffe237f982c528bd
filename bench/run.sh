#!/bin/bash
# Runs POP3 -> SMTP (or webhook) forwarders over the same work and prints a table. See README.md, or run.sh --help.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
export BENCH_OUT=${BENCH_OUT:-${TMPDIR:-/tmp}/mailferry-bench}
"$here/build.sh"
if [ "${1:-}" = --plots ]; then
  shift
  exec python3 "$here/plots.py" "$@"
fi
if [ "${1:-}" = --idle ]; then
  shift
  exec node "$here/idle.ts" "$@"
fi
exec python3 "$here/run.py" "$@"
