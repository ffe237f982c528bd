#!/usr/bin/env bash
# Cyrus: POP3 on its own store; PLAIN, LOGIN, CRAM-MD5, SCRAM and APOP, STLS and implicit TLS, deliver and count need it running.
#   TLS=required   no password in the clear before TLS
#   IMAPD_CONF     more lines for imapd.conf, for example 'popminpoll: 1' (one login a minute, Debian's default)
. "$(dirname "$0")/lib.sh"

ids=19997 # uid of a user "cyrus" that only this server sees

do_install() { unpack cyrus-pop3d sasl2-bin libsasl2-modules; }
maildrop() { echo "$1/spool/user/$2"; }

do_start() {
  local dir=$1 port=$2 tls=${3:-} plain=yes
  [ -e "$PKGROOT/.done" ] || die 'run install first'
  [ "${TLS:-}" != required ] || plain=no
  mkdir -p "$dir/etc" "$dir/lib" "$dir/spool"
  { cat /etc/passwd && echo "cyrus:x:$ids:8::$dir/lib:/usr/sbin/nologin"; } >"$dir/etc/passwd"
  chown "$ids:mail" "$dir/lib" "$dir/spool" "$dir/key.pem"
  cat >"$dir/imapd.conf" <<CONF
configdirectory: $dir/lib
defaultpartition: default
partition-default: $dir/spool
mailbox_legacy_dirs: yes
lmtpsocket: $dir/lib/lmtp
idlesocket: $dir/lib/idle
notifysocket: $dir/lib/notify
servername: localhost
admins: cyrus
autocreate_quota: 0
autocreate_post: yes
expunge_mode: immediate
delete_mode: immediate
duplicatesuppression: no
allowplaintext: $plain
allowapop: yes
sasl_pwcheck_method: auxprop
sasl_auxprop_plugin: sasldb
sasl_sasldb_path: $dir/lib/sasldb2
sasl_mech_list: PLAIN LOGIN CRAM-MD5 SCRAM-SHA-1 SCRAM-SHA-256
tls_server_cert: $dir/cert.pem
tls_server_key: $dir/key.pem
${IMAPD_CONF:-}
CONF
  cat >"$dir/cyrus.conf" <<CONF
START {
  recover cmd="/usr/lib/cyrus/bin/ctl_cyrusdb -C $dir/imapd.conf -r"
}
SERVICES {
  pop3 cmd="/usr/lib/cyrus/bin/pop3d -C $dir/imapd.conf" listen="127.0.0.1:$port" maxchild=200
  ${tls:+pop3s cmd=\"/usr/lib/cyrus/bin/pop3d -C $dir/imapd.conf -s\" listen=\"127.0.0.1:$tls\" maxchild=200}
  lmtpunix cmd="/usr/lib/cyrus/bin/lmtpd -C $dir/imapd.conf" listen="$dir/lib/lmtp"
}
EVENTS {
}
CONF
  sandboxed "$dir"
  wait_port "$dir" "$port" greet
  [ -z "$tls" ] || wait_port "$dir" "$tls"
  report "$dir" "$port" "$tls"
}

do__inside() {
  local dir=$1 n
  installed_view "$dir"
  if [ ! -e "$dir/lib/sasldb2" ]; then
    mkdir -p "$dir/lib"/{db,db.backup1,db.backup2,proc,log,msg,ptclient,quota,sieve,socket,user}
    for n in $(seq "$USERS"); do echo "p$n" | saslpasswd2 -p -c -f "$dir/lib/sasldb2" -u localhost "u$n"; done
    chown -R "$ids:mail" "$dir/lib"
  fi
  as_init /usr/lib/cyrus/bin/master -C "$dir/imapd.conf" -M "$dir/cyrus.conf" -p "$dir/lib/master.pid"
}

# Both work through the running server: its store is its own. It refuses a NUL and a broken header.
do_deliver() {
  alive "$1" || die "not running in $1"
  python3 "$HERE/lmtp.py" "$1/lib/lmtp" "${@:2}"
}

do_count() {
  alive "$1" || die "not running in $1"
  nsenter -t "$(pgrep -P "$(cat "$1/pid")")" -m -p /usr/lib/cyrus/bin/mbexamine -C "$1/imapd.conf" "user/$2" |
    awk '/Number of Messages:/ {n = $4} END {print n + 0}'
}

server_main "$@"
