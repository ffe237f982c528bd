#!/bin/sh
# Cleans up after a test process however that ends, kill -9 included: `janitor.sh BASE PID`, with a pipe from PID as
# standard input. When the pipe closes, every process that lives in one of PID's folders (BASE/mf-PID-*) is killed and
# the folders are removed. A process lives there if its current folder is there or its command line names it.
# First it does the same for folders of owners that are gone, should their janitor have been killed too.
base=$1 owner=$2
trap '' HUP INT TERM

clean() { # PID
  mine=$base/mf-$1-
  for _ in 1 2; do # once more for what was being started meanwhile
    for file in $(find /proc/[0-9]*/cwd -maxdepth 0 -lname "$mine*" 2>/dev/null; grep -slaF -e "$mine" /proc/[0-9]*/cmdline); do
      pid=${file#/proc/} pid=${pid%/*}
      [ "$pid" = $$ ] || kill -KILL "$pid" 2>/dev/null
    done
  done
  rm -rf "$mine"*
}

for dir in "$base"/mf-*-*; do
  pid=${dir##*/mf-} pid=${pid%%-*}
  [ ! -d "$dir" ] || kill -0 "$pid" 2>/dev/null || clean "$pid"
done

read -r _ # nothing ever comes but the end

clean "$owner"
