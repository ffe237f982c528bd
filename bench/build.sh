#!/bin/bash
# Builds the servers and raw clients into $BENCH_OUT/bin, installs the naive script's packages, and mailferry as a package has it.
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

root=$(cd .. && pwd)
rm -rf "$out/mailferry"
mkdir "$out/mailferry"
"$root/node_modules/.bin/tsc" -p "$root/tsconfig.build.json" --outDir "$out/mailferry/dist"
chmod +x "$out/mailferry/dist/main.js"
cp "$root/package.json" "$out/mailferry/"
ln -s "$root/node_modules" "$root/config" "$out/mailferry/"
