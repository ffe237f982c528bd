#!/bin/bash
exec node "$BENCH_OUT/naive/naive.mjs"
