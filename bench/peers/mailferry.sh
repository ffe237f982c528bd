#!/bin/bash
# mailferry itself: one `sync` with its embedded Redis, which it starts and stops within the measured time.
# One account is served as A and B say; many at once may use as many connections as the limit's best.
parallel=20; [ "$(wc -l < "$USERS_FILE")" -lt 50 ] || parallel=50
mailferry() { "$BENCH_OUT/mailferry/dist/main.js" --config "$WORKDIR/mailferry.yaml" "$@"; }
if [ "$PHASE" = prime ]; then
  {
    echo "dataDir: $WORKDIR/data"
    echo 'concurrency: 400'
    echo 'destinations:'
    if [ "$SINK" = http ]; then
      echo "  out: { type: webhook, url: '$HTTP_URL', format: raw, allowPrivate: true, concurrency: $parallel }"
    else
      echo "  out: { type: smtp, host: $SMTP_HOST, port: $SMTP_PORT, security: none, to: [$RCPT], from: $MAIL_FROM, concurrency: $parallel }"
    fi
    retention=delete first=deliver
    [ "$KEEP" = 0 ] || retention=keep first=skip
    echo "defaults: { host: $POP3_HOST, port: $POP3_PORT, security: none, maxMessageSize: 1GB,"
    echo "  deliverTo: [out], retention: $retention, firstPoll: $first }"
    echo 'accounts:'
    sed "s/.*/  &: { user: &, password: '$PASS' }/" "$USERS_FILE"
  } > "$WORKDIR/mailferry.yaml"
  # What the earlier poll had: the first poll skips it.
  [ "$KEEP" = 0 ] || mailferry sync
  exit
fi
mailferry sync
