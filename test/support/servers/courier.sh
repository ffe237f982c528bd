#!/usr/bin/env bash
# Courier: POP3 on Maildir; PLAIN, LOGIN and CRAM-MD5, STLS and implicit TLS.
#   MAXPERIP=100   connections at once from one address; Courier's own default is 4
#   TLS=required   no login before TLS
. "$(dirname "$0")/lib.sh"

ids=19998 # uid and gid of a user "courier" that only this server sees

do_install() { unpack courier-pop; }
maildrop() { echo "$1/mail/$2"; }

do_start() {
  local dir=$1 port=$2 tls=${3:-} required=0
  [ -e "$PKGROOT/.done" ] || die 'run install first'
  [ "${TLS:-}" != required ] || required=1
  system_accounts "$dir" mail
  echo "courier:x:$ids:$ids::/var/lib/courier:/usr/sbin/nologin" >>"$dir/etc/passwd"
  echo "courier:x:$ids:" >>"$dir/etc/group"
  for n in $(seq "$USERS"); do to_maildir "$(maildrop "$dir" "u$n")"; done
  chmod 755 "$dir/mail"
  chown "$ids:$ids" "$dir/both.pem"
  mkdir -p "$dir/etc/courier" "$dir/run/courier/authdaemon"
  chown "$ids:$ids" "$dir/run/courier/authdaemon"
  sed 's/^authmodulelist=.*/authmodulelist="authuserdb"/' "$PKGROOT/etc/courier/authdaemonrc" >"$dir/etc/courier/authdaemonrc"
  cat >"$dir/courier.env" <<CONF
. $PKGROOT/etc/courier/pop3d
. $PKGROOT/etc/courier/pop3d-ssl
POP3AUTH='PLAIN LOGIN CRAM-MD5'
POP3AUTH_TLS='PLAIN LOGIN CRAM-MD5'
POP3_TLS_REQUIRED=$required
TLS_CERTFILE=$dir/both.pem
TLS_DHPARAMS=
TLS_CACHEFILE=
CONF
  sandboxed "$dir" "$port" "$tls"
  wait_port "$dir" "$port" greet
  [ -z "$tls" ] || wait_port "$dir" "$tls"
  report "$dir" "$port" "$tls"
}

# tcpd PORT COMMAND...
tcpd() { couriertcpd -address=127.0.0.1 -maxprocs=200 -maxperip="${MAXPERIP:-100}" -nodnslookup -noidentlookup "$@"; }

do__inside() {
  local dir=$1 login=/usr/lib/courier/courier/courierpop3login pop3d=/usr/lib/courier/courier/courierpop3d n
  installed_view "$dir"
  for n in $(seq "$USERS"); do
    printf 'u%s\tuid=8|gid=8|home=%s|mail=%s|systempw=%s|hmac-md5pw=%s\n' "$n" "$dir/home" "$(maildrop "$dir" "u$n")" \
      "$(openssl passwd -1 "p$n")" "$(echo "p$n" | userdbpw -hmac-md5)"
  done >"$dir/etc/courier/userdb"
  chmod 600 "$dir/etc/courier/userdb"
  makeuserdb -f "$dir/etc/courier/userdb"
  set +u # Courier's own settings files expect this
  # shellcheck disable=SC1091 # in the package
  (set -a && . /etc/courier/authdaemonrc && exec /usr/lib/courier/courier-authlib/authdaemond) &
  set -a
  # shellcheck disable=SC1091 # made by do_start
  . "$dir/courier.env"
  [ -z "${3:-}" ] || POP3_TLS=1 POP3_STARTTLS=NO POP3_TLS_REQUIRED=0 tcpd "$3" /usr/bin/couriertls -server -tcpd -user=courier "$login" "$pop3d" Maildir &
  as_init tcpd "$2" "$login" "$pop3d" Maildir
}

do_deliver() { to_maildir "$(maildrop "$1" "$2")" "${@:3}"; }
do_count() { count_maildir "$(maildrop "$1" "$2")"; }

server_main "$@"
