#!/usr/bin/env bash
# Postfix as an SMTP sink: mail for uN@anything goes to a Maildir; STARTTLS, implicit TLS, AUTH (PLAIN, LOGIN,
# CRAM-MD5, SCRAM) with the users' passwords. Nothing is ever sent on: there is no relaying and no outgoing service.
#   AUTH=required        no mail without AUTH
#   TLS=required         no mail without TLS
#   SIZE_LIMIT=52428800  octets of a message; more is refused with 552
#   MAIN_CF              more lines for main.cf
# Replies to recipients besides uN: tempfail@ 451, overquota@ 452, reject@ 554, discard@ taken and thrown away,
# bodyfail@, as the only one, taken and refused with 451 after the data; any other is unknown, 550.
. "$(dirname "$0")/lib.sh"

ids=19996 # uid and gid of a user "postfix" that only this server sees

do_install() { unpack postfix sasl2-bin libsasl2-modules; }
maildrop() { echo "$1/mail/$2"; }

do_start() {
  local dir=$1 port=$2 tls=${3:-} restrict=permit level=may
  [ -e "$PKGROOT/.done" ] || die 'run install first'
  [ "${AUTH:-}" != required ] || restrict='permit_sasl_authenticated, reject'
  [ "${TLS:-}" != required ] || level=encrypt
  mkdir -p "$dir/etc/postfix/sasl" "$dir/spool" "$dir/data" "$dir/mail"
  { cat /etc/passwd && echo "postfix:x:$ids:$ids::$dir/spool:/usr/sbin/nologin"; } >"$dir/etc/passwd"
  { cat /etc/group && printf '%s\n' "postfix:x:$ids:" "postdrop:x:$((ids - 1)):"; } >"$dir/etc/group"
  chown "$ids:$ids" "$dir/data"
  chown mail:mail "$dir/mail"
  cp -r "$PKGROOT/etc/postfix/." "$dir/etc/postfix/"
  cat >"$dir/etc/postfix/main.cf" <<CONF
compatibility_level = 3.6
queue_directory = $dir/spool
data_directory = $dir/data
maillog_file = $dir/mail.log
maillog_file_prefixes = $dir
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = localhost
mydestination =
mynetworks =
local_header_rewrite_clients =
alias_maps =
biff = no
default_transport = error:this server sends nothing on
virtual_alias_domains = regexp:/etc/postfix/alias_domains
virtual_alias_maps = regexp:/etc/postfix/aliases
virtual_mailbox_domains = box.invalid
virtual_mailbox_base = $dir/mail
virtual_mailbox_maps = texthash:/etc/postfix/boxes
virtual_mailbox_limit = 0
virtual_minimum_uid = 1
virtual_uid_maps = static:8
virtual_gid_maps = static:8
message_size_limit = ${SIZE_LIMIT:-52428800}
smtpd_recipient_restrictions = check_recipient_access regexp:/etc/postfix/answers, $restrict
smtpd_data_restrictions = reject_unauth_pipelining
smtpd_end_of_data_restrictions = check_recipient_access regexp:/etc/postfix/at_end
smtpd_sasl_auth_enable = yes
smtpd_sasl_local_domain = localhost
smtpd_tls_security_level = $level
smtpd_tls_cert_file = $dir/cert.pem
smtpd_tls_key_file = $dir/key.pem
smtpd_tls_session_cache_database =
smtpd_client_connection_count_limit = 0
${MAIN_CF:-}
CONF
  # uN@anything is an alias of uN@box.invalid, whose mailbox is mail/uN
  echo '!/^box\.invalid$/ yes' >"$dir/etc/postfix/alias_domains"
  { each_user '/^u&@/ u&@box.invalid' && printf '/^%s@/ %s@box.invalid\n' discard discard bodyfail bodyfail; } >"$dir/etc/postfix/aliases"
  { each_user 'u&@box.invalid u&/' && printf '%s@box.invalid %s/\n' discard discard bodyfail bodyfail; } >"$dir/etc/postfix/boxes"
  printf '%s\n' '/^tempfail@/ 451 4.3.0 try again later' '/^overquota@/ 452 4.2.2 mailbox full' \
    '/^reject@/ 554 5.7.1 not wanted' >"$dir/etc/postfix/answers"
  printf '%s\n' '/^discard@/ DISCARD' '/^bodyfail@/ 451 4.3.0 cannot store it now' >"$dir/etc/postfix/at_end"
  printf '%s\n' 'pwcheck_method: auxprop' 'auxprop_plugin: sasldb' "sasldb_path: $dir/sasldb2" \
    'mech_list: PLAIN LOGIN CRAM-MD5 SCRAM-SHA-1 SCRAM-SHA-256' >"$dir/etc/postfix/sasl/smtpd.conf"
  {
    echo "127.0.0.1:$port inet n - n - 100 smtpd"
    [ -z "$tls" ] || printf '%s\n' "127.0.0.1:$tls inet n - n - 100 smtpd" '  -o smtpd_tls_wrappermode=yes'
    printf '%s\n' 'pickup unix n - n 60 1 pickup' 'cleanup unix n - n - 0 cleanup' 'qmgr unix n - n 300 1 qmgr' \
      'rewrite unix - - n - - trivial-rewrite' 'bounce unix - - n - 0 bounce' 'defer unix - - n - 0 bounce' \
      'trace unix - - n - 0 bounce' 'verify unix - - n - 1 verify' 'proxymap unix - - n - - proxymap' \
      'error unix - - n - - error' 'discard unix - - n - - discard' 'virtual unix - n n - - virtual' \
      'showq unix n - n - - showq' 'anvil unix - - n - 1 anvil' 'tlsmgr unix - - n 1000? 1 tlsmgr' \
      'postlog unix-dgram n - n - 1 postlogd'
  } >"$dir/etc/postfix/master.cf"
  # Postfix waits until its files are two seconds old, lest they be half written
  find "$dir/etc/postfix" -type f -exec touch -d '1 minute ago' {} +
  sandboxed "$dir"
  wait_port "$dir" "$port" greet
  [ -z "$tls" ] || wait_port "$dir" "$tls"
  report "$dir" "$port" "$tls"
}

do__inside() {
  local dir=$1 n
  installed_view "$dir"
  if [ ! -e "$dir/sasldb2" ]; then
    for n in $(seq "$USERS"); do echo "p$n" | saslpasswd2 -p -c -f "$dir/sasldb2" -u localhost "u$n"; done
    chown "$ids" "$dir/sasldb2"
  fi
  as_init postfix start-fg
}

do_deliver() { to_maildir "$(maildrop "$1" "$2")" "${@:3}"; }
do_count() { count_maildir "$(maildrop "$1" "$2")"; }

server_main "$@"
