#!/bin/bash
# Builds the servers and raw clients into $BENCH_OUT/bin and installs the naive script's packages there.
set -eu
cd "$(dirname "$0")"
out=$BENCH_OUT
mkdir -p "$out/bin" "$out/naive"
for s in pop3d smtpd-sink http-sink raw; do
  if [ "$out/bin/$s" -ot "src/$s.c" ] || [ "$out/bin/$s" -ot src/common.h ] || [ "$out/bin/$s" -ot src/sink.h ]; then
    gcc -O2 -Wall -Wextra -std=gnu11 -o "$out/bin/$s" "src/$s.c" -lpthread
  fi
done
if [ ! -d "$out/naive/node_modules/node-pop3" ]; then
  (cd "$out/naive" && npm init -y >/dev/null 2>&1 && npm install --no-audit --no-fund node-pop3@0.11.0 nodemailer@10.6.0 >/dev/null 2>&1)
fi
cp naive.mjs "$out/naive/"
