#!/usr/bin/env bash
# popa3d: mbox, system accounts (private ones), no CAPA, no SASL, no STLS. TLSPORT is served through stunnel.
. "$(dirname "$0")/lib.sh"

do_install() { unpack popa3d stunnel4; }
maildrop() { echo "$1/mail/$2"; }

do_start() {
  local dir=$1 port=$2 tls=${3:-}
  [ -e "$PKGROOT/.done" ] || die 'run install first'
  mkdir -p "$dir/mail"
  system_accounts "$dir" mail
  echo 'popa3d:x:19999:8::/var/lib/popa3d:/usr/sbin/nologin' >>"$dir/etc/passwd"
  chmod 1777 "$dir/mail"
  sandboxed "$dir" "$port" "$tls"
  wait_port "$dir" "$port" greet
  [ -z "$tls" ] || wait_port "$dir" "$tls"
  report "$dir" "$port" "$tls"
}

do__inside() {
  installed_view "$1"
  mount --bind "$1/mail" /var/mail
  [ -z "${3:-}" ] || tls_front "$1" "$3" /usr/sbin/popa3d
  as_init python3 "$HERE/inetd.py" "$2" /usr/sbin/popa3d
}

do_deliver() { to_mbox "$(maildrop "$1" "$2")" "$(user_id "$1" "$2")" mail "${@:3}"; }
do_count() { count_mbox "$(maildrop "$1" "$2")"; }

server_main "$@"
