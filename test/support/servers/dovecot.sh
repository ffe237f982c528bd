#!/usr/bin/env bash
# Dovecot: POP3 (Maildir), on request LMTP, IMAP and OAuth. README.md has the interface; what the environment adds:
#   USERS=10         u1..uN, password p1..pN
#   MECHS="plain login cram-md5 scram-sha-1 scram-sha-256 apop"
#   TLS=yes          "no": no TLS; "required": no password in the clear before TLS. Dovecot trusts a client whose
#                    address is the server's, so it then listens on 127.0.0.2 too (strictHost): use that one
#   LOCK=1           one session at a time for a mailbox (pop3_lock_session); Dovecot's own default is none
#   FAIL_DELAY=0     seconds before the answer to a wrong password (Dovecot's own default is 2)
#   UIDL_FORMAT      Dovecot's pop3_uidl_format, for example '%f' or '%g'
#   LMTPPORT=P       an LMTP server for the same mailboxes
#   IMAPPORT=P       an IMAP server (STARTTLS) for the same mailboxes; IMAPSPORT=P too for implicit TLS
#   OAUTH=1          XOAUTH2 and OAUTHBEARER; the token server listens on OAUTHPORT (default PORT + 1000)
#   EXTRA            more lines for dovecot.conf
. "$(dirname "$0")/lib.sh"

ids=19994 # uid and gid of users "dovecot" and, one less, "dovenull" that only this server sees

do_install() { unpack dovecot-pop3d dovecot-lmtpd dovecot-imapd; }
maildrop() { echo "$1/mail/$2"; }

do_start() {
  local dir=$1 port=$2 tls=${3:-} mechs=${MECHS:-plain login cram-md5 scram-sha-1 scram-sha-256 apop} lock=no more='' listen=127.0.0.1 plain=no
  [ -e "$PKGROOT/.done" ] || die 'run install first'
  [ -z "${LOCK:-}" ] || lock=yes
  [ "${TLS:-}" != required ] || { listen='127.0.0.1, 127.0.0.2' plain=yes more='"strictHost":"127.0.0.2"'; }
  mkdir -p "$dir/mail" "$dir/run" "$dir/state" "$dir/etc"
  { cat /etc/passwd && printf '%s:/nonexistent:/usr/sbin/nologin\n' "dovecot:x:$ids:$ids:" "dovenull:x:$((ids - 1)):$((ids - 1)):"; } >"$dir/etc/passwd"
  { cat /etc/group && printf '%s:\n' "dovecot:x:$ids" "dovenull:x:$((ids - 1))"; } >"$dir/etc/group"
  chown mail:mail "$dir/mail"
  each_user 'u&:{PLAIN}p&' >"$dir/users"
  chmod 644 "$dir/users"
  {
    cat <<CONF
protocols = pop3 ${LMTPPORT:+lmtp} ${IMAPPORT:+imap}
listen = $listen
base_dir = $dir/run/dovecot
state_dir = $dir/state
log_path = $dir/dovecot.log
auth_verbose = yes
auth_failure_delay = ${FAIL_DELAY:-0} secs
auth_username_format = %Ln
auth_mechanisms = $mechs ${OAUTH:+xoauth2 oauthbearer}
disable_plaintext_auth = $plain
ssl = ${TLS:-yes}
ssl_cert = <$dir/cert.pem
ssl_key = <$dir/key.pem
mail_location = maildir:$dir/mail/%u
mail_uid = mail
mail_gid = mail
first_valid_uid = 1
first_valid_gid = 1
mail_max_userip_connections = 0
pop3_lock_session = $lock
${UIDL_FORMAT:+pop3_uidl_format = $UIDL_FORMAT}
userdb {
  driver = static
  args = home=$dir/mail/%u.home allow_all_users=no
}
passdb {
  driver = passwd-file
  args = scheme=PLAIN username_format=%u $dir/users
}
service pop3-login {
  service_count = 0
  inet_listener pop3 {
    port = $port
  }
  inet_listener pop3s {
    port = ${tls:-0}
    ssl = yes
  }
}
# without this, wrong passwords make every later login from the same address slower and slower
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
${EXTRA:-}
CONF
    [ -z "${LMTPPORT:-}" ] || cat <<CONF
service lmtp {
  inet_listener lmtp {
    port = $LMTPPORT
  }
}
CONF
    [ -z "${IMAPPORT:-}" ] || cat <<CONF
service imap-login {
  inet_listener imap {
    port = $IMAPPORT
  }
  inet_listener imaps {
    port = ${IMAPSPORT:-0}
    ssl = yes
  }
}
CONF
    [ -z "${OAUTH:-}" ] || cat <<CONF
passdb {
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = $dir/oauth.conf
}
CONF
  } >"$dir/dovecot.conf"
  if [ -n "${OAUTH:-}" ]; then
    local oport=${OAUTHPORT:-$((port + 1000))}
    cat >"$dir/oauth.conf" <<CONF
introspection_url = http://127.0.0.1:$oport/introspect?token=
introspection_mode = get
username_attribute = username
active_attribute = active
active_value = true
CONF
    background "$dir" pid.oauth node "$HERE/oauth.mjs" "$oport"
    more="$more${more:+,}\"oauthPort\":$oport"
  fi
  [ -z "${LMTPPORT:-}" ] || more="$more${more:+,}\"lmtpPort\":$LMTPPORT"
  sandboxed "$dir"
  wait_port "$dir" "$port" greet
  [ -z "${LMTPPORT:-}" ] || wait_port "$dir" "$LMTPPORT" greet
  [ -z "${IMAPPORT:-}" ] || wait_port "$dir" "$IMAPPORT" greet
  report "$dir" "$port" "$tls" "$more"
}


do__inside() {
  installed_view "$1"
  as_init dovecot -F -c "$1/dovecot.conf"
}

do_deliver() { to_maildir "$(maildrop "$1" "$2")" "${@:3}"; }
do_count() { count_maildir "$(maildrop "$1" "$2")"; }

server_main "$@"
