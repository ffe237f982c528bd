#!/usr/bin/env bash
# GNU Mailutils pop3d: mbox or, with STORE=maildir, Maildir; system accounts (private ones); STLS and implicit TLS.
#   LOGIN_DELAY=SECONDS   a CAPA line that should say LOGIN-DELAY (this version says only the number, and enforces nothing)
#   EXPIRE=DAYS           a CAPA line that should say EXPIRE DAYS (this version leaves out the space)
. "$(dirname "$0")/lib.sh"

do_install() { unpack mailutils-pop3d; }
maildrop() { echo "$1/mail/$2"; }

do_start() {
  local dir=$1 port=$2 tls=${3:-}
  [ -e "$PKGROOT/.done" ] || die 'run install first'
  mkdir -p "$dir/mail" "$dir/locks"
  chmod 1777 "$dir/mail" "$dir/locks"
  system_accounts "$dir" mail
  {
    cat <<CONF
mode daemon;
foreground yes;
pidfile $dir/pop3d.pid;
timeout 600;
max-children 200;
logging { syslog no; };
auth {
  authentication "generic:system";
  authorization system;
};
mailbox {
  mailbox-pattern "$STORE:$dir/mail/\${user}";
};
tls {
  ssl-certificate-file $dir/cert.pem;
  ssl-key-file $dir/key.pem;
};
tcp-wrappers { enable no; };
mandatory-locking { enable yes; lock-directory $dir/locks; };
${LOGIN_DELAY:+login-delay $LOGIN_DELAY;}
${EXPIRE:+expire $EXPIRE;}
server 127.0.0.1:$port { tls-mode ondemand; };
CONF
    [ -z "$tls" ] || echo "server 127.0.0.1:$tls { tls-mode connection; };"
  } >"$dir/pop3d.conf"
  sandboxed "$dir"
  wait_port "$dir" "$port" greet
  [ -z "$tls" ] || wait_port "$dir" "$tls"
  report "$dir" "$port" "$tls"
}

do__inside() {
  installed_view "$1"
  as_init pop3d --no-site-config --config-file="$1/pop3d.conf"
}

do_deliver() { store_deliver "$@"; }
do_count() { store_count "$@"; }

server_main "$@"
