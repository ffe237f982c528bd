#!/usr/bin/env bash
# solid-pop3d: mbox or, with STORE=maildir, Maildir; system accounts (private ones). TLSPORT goes through stunnel.
. "$(dirname "$0")/lib.sh"

do_install() { unpack solid-pop3d stunnel4; }
maildrop() { echo "$1/mail/$2"; }

do_start() {
  local dir=$1 port=$2 tls=${3:-} type=mailbox
  [ -e "$PKGROOT/.done" ] || die 'run install first'
  [ "$STORE" = mbox ] || type=maildir
  mkdir -p "$dir/mail"
  chmod 1777 "$dir/mail"
  system_accounts "$dir" mail
  echo 'spop3d:x:19999:8::/nonexistent:/usr/sbin/nologin' >>"$dir/etc/passwd"
  cat >"$dir/etc/spop3d.conf" <<CONF
<Global>
MailDropName "$dir/mail/%s"
MailDropType $type
CreateMailDrop yes
LogStatistics no
AddBulletins no
AutoLogoutTime 10m
</Global>
CONF
  sandboxed "$dir" "$port" "$tls"
  wait_port "$dir" "$port" greet
  [ -z "$tls" ] || wait_port "$dir" "$tls"
  report "$dir" "$port" "$tls"
}

do__inside() {
  installed_view "$1"
  [ -z "${3:-}" ] || tls_front "$1" "$3" /usr/sbin/solid-pop3d
  as_init python3 "$HERE/inetd.py" "$2" /usr/sbin/solid-pop3d
}

do_deliver() { store_deliver "$@"; }
do_count() { store_count "$@"; }

server_main "$@"
