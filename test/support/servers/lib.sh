# shellcheck shell=bash
# What the server scripts of this folder share. Sourced by them, never run by itself.
# README.md beside this file has the interface. Nothing here touches a system service, account or configuration file.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
NAME=$(basename "$0" .sh)
# Packages that cannot be installed side by side (Debian lets only one pop3-server in) are unpacked here.
PKGROOT=${MAILFERRY_TEST_PKGS:-/var/cache/mailferry-tests}/$NAME
# program:package
TOOLS='pgrep:procps openssl:openssl unshare:util-linux python3:python3'
USERS=${USERS:-10}

die() { echo "$NAME.sh: $*" >&2; exit 1; }

# ---- packages ----

# Run a command that needs apt's package lists: as it is first, once more after an update.
with_lists() { "$@" || { apt-get -qq update >&2 && "$@"; }; }

# apt_install PKG...: plain installation; a policy-rc.d of ours keeps the daemons from starting.
apt_install() {
  dpkg-query -W -f '${db:Status-Abbrev}\n' "$@" 2>/dev/null | grep -c '^ii' | grep -qx "$#" && return 0
  local policy=/usr/sbin/policy-rc.d made=
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" && made=1
  fi
  local rc=0
  DEBIAN_FRONTEND=noninteractive with_lists \
    apt-get -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 install "$@" >&2 || rc=$?
  [ -z "$made" ] || rm -f "$policy"
  return "$rc"
}

# unpack PKG...: the packages and every dependency this machine lacks, unpacked below PKGROOT.
# Nothing of theirs is run, no system user is made, no file outside PKGROOT is touched.
unpack() {
  [ "$(cat "$PKGROOT/.done" 2>/dev/null)" = "$*" ] && return 0
  rm -rf "$PKGROOT" && mkdir -p "$PKGROOT/usr/bin" "$PKGROOT/usr/sbin" "$PKGROOT/usr/lib" "$PKGROOT/etc" "$PKGROOT/.deb"
  ln -s usr/bin usr/sbin usr/lib "$PKGROOT/"
  local deps deb
  deps=$(with_lists apt-get -s --no-install-recommends install "$@" | awk '/^Inst/ && !/^Inst exim4/ {print $2}')
  deps=$(printf '%s\n' "$@" "$deps" | sort -u)
  # shellcheck disable=SC2086 # one package name a word
  (cd "$PKGROOT/.deb" && chmod 777 . && with_lists apt-get -qq download $deps >&2)
  for deb in "$PKGROOT"/.deb/*.deb; do
    dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C "$PKGROOT"
  done
  rm -rf "$PKGROOT/.deb"
  echo "$*" >"$PKGROOT/.done"
}

# ---- certificates: DIR/ca.pem, DIR/cert.pem, DIR/key.pem, made once a DIR ----
# CERT_SAN and CERT_DAYS give a certificate for another name or one that has expired (CERT_DAYS=-1).

make_certs() {
  local dir=$1
  [ -s "$dir/cert.pem" ] && return 0
  local ec=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
  openssl req -x509 "${ec[@]}" -days 3650 -subj '/CN=mailferry test CA' \
    -addext 'keyUsage=critical,keyCertSign,cRLSign' \
    -keyout "$dir/ca.key" -out "$dir/ca.pem" 2>/dev/null
  openssl req "${ec[@]}" -subj '/CN=localhost' -keyout "$dir/key.pem" -out "$dir/cert.csr" 2>/dev/null
  printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\n' "${CERT_SAN:-DNS:localhost,IP:127.0.0.1,IP:127.0.0.2}" >"$dir/cert.ext"
  openssl x509 -req -in "$dir/cert.csr" -CA "$dir/ca.pem" -CAkey "$dir/ca.key" -set_serial "0x$(openssl rand -hex 8)" \
    -days "${CERT_DAYS:-365}" -extfile "$dir/cert.ext" -out "$dir/cert.pem" 2>/dev/null
  cat "$dir/key.pem" "$dir/cert.pem" >"$dir/both.pem"
  chmod 600 "$dir/ca.key" "$dir/key.pem" "$dir/both.pem"
  rm -f "$dir/cert.csr" "$dir/cert.ext"
}

# ---- processes ----

# background DIR PIDFILE COMMAND...: run it detached, its output in DIR/out.log, its pid in DIR/PIDFILE.
background() {
  local dir=$1 pidfile=$2
  shift 2
  # its current folder says whose it is: the sweep of ../janitor.sh goes by that
  (cd "$dir" && exec setsid "$@" </dev/null >>"$dir/out.log" 2>&1) &
  echo $! >"$dir/$pidfile"
}

# sandboxed DIR ARG...: run this script again, as `NAME.sh _inside DIR ARG...`, as process 1 of its own
# process and mount namespaces. Killing the pid in DIR/pid ends everything that was started in there.
sandboxed() { background "$1" pid unshare --mount --pid --fork --kill-child --mount-proc "$BASH" "$HERE/$NAME.sh" _inside "$@"; }

# installed_view DIR: (inside) make /usr, /etc and /var/lib look as if PKGROOT were installed, DIR/etc on top of
# that, and put a private DIR/run over /run.
installed_view() {
  mkdir -p "$1/etc" "$1/run"
  mount -t overlay -o "ro,lowerdir=$PKGROOT/usr:/usr" overlay /usr
  mount -t overlay -o "ro,lowerdir=$1/etc:$PKGROOT/etc:/etc" overlay /etc
  [ ! -d "$PKGROOT/var/lib" ] || mount -t overlay -o "ro,lowerdir=$PKGROOT/var/lib:/var/lib" overlay /var/lib
  mount --bind "$1/run" /run
}

# as_init COMMAND...: (inside) run it until it ends, or for 0.3 seconds more when TERM comes. Sessions end with it.
as_init() {
  "$@" &
  # shellcheck disable=SC2064 # the pid of now
  trap "kill -TERM $! 2>/dev/null; sleep 0.3; exit 0" TERM INT
  wait $! || true
}

# tls_front DIR TLSPORT COMMAND...: (inside) implicit TLS by stunnel for a server that has none.
tls_front() {
  local dir=$1 port=$2
  shift 2
  printf '%s\n' foreground=yes 'pid=' 'syslog=no' 'debug=4' '[pop3s]' "accept=127.0.0.1:$port" "cert=$dir/cert.pem" "key=$dir/key.pem" \
    "exec=$1" "execArgs=$*" >"$dir/stunnel.conf"
  stunnel "$dir/stunnel.conf" &
}

# running PID: and not a zombie, which "kill -0" takes for alive
running() { grep -qs '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$1/status"; }
alive() { [ -s "$1/pid" ] && running "$(cat "$1/pid")"; }

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# wait_port DIR PORT [greet]: until the port answers (with a line, given `greet`) or the process has died.
wait_port() {
  local line end=$((SECONDS + 20))
  while alive "$1" && [ $SECONDS -lt $end ]; do
    if (exec 3<>"/dev/tcp/127.0.0.1/$2" && { [ -z "${3:-}" ] || { read -r -t 5 line <&3 && [ -n "$line" ]; }; }) 2>/dev/null; then
      return 0
    fi
    sleep 0.1
  done
  tail -n 20 "$1"/*.log >&2 || true
  do_stop "$1"
  die "nothing answers on port $2"
}

# end_process PIDFILE: TERM, and KILL for what is still there 5 seconds later.
end_process() {
  [ -s "$1" ] || return 0
  local pid target
  pid=$(cat "$1")
  # a pid file that a crash left behind may name somebody else's process by now
  if ! running "$pid" || [ "$(readlink "/proc/$pid/cwd")" != "$(cd "${1%/*}" && pwd -P)" ]; then
    rm -f "$1"
    return 0
  fi
  target=$pid
  # unshare passes no TERM on: ask its child, process 1 of the namespace, instead
  [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != unshare ] || target=$(pgrep -P "$pid") || target=$pid
  kill -TERM "$target" 2>/dev/null || true
  for _ in $(seq 50); do
    running "$pid" || break
    sleep 0.1
  done
  kill -KILL "$pid" 2>/dev/null || true
  rm -f "$1"
}

do_stop() {
  local file
  for file in "$1"/pid "$1"/pid.*; do end_process "$file"; done
}

# ---- users and mail ----

# each_user TEMPLATE: a line for every user, "&" standing for its number: each_user 'u&:p&'
each_user() { seq "$USERS" | sed "s|.*|$1|"; }

# system_accounts DIR GROUP: DIR/etc/{passwd,group}: those of this machine, and u1..uN; DIR/etc/shadow: u1..uN alone,
# with password pN.
system_accounts() {
  local dir=$1 gid
  mkdir -p "$dir/etc" "$dir/home"
  gid=$(getent group "$2" | cut -d: -f3)
  { cat /etc/passwd; each_user "u&:x:&:$gid::$dir/home:/bin/sh" | awk -F: -v OFS=: '{$3 += 20000} 1'; } >"$dir/etc/passwd"
  each_user 'p&' | openssl passwd -5 -stdin | awk '{print "u" NR ":" $0 ":19000:0:99999:7:::"}' >"$dir/etc/shadow"
  cp /etc/group "$dir/etc/group"
  chmod 600 "$dir/etc/shadow"
}

user_id() { awk -F: -v user="$2" '$1 == user {print $3}' "$1/etc/passwd"; }

# Stored mail has LF for CRLF, as MTAs write it; RAW=1 stores the bytes of the file as they are.
stored_lines=(-e 's/\r$//')
[ -z "${RAW:-}" ] || stored_lines=(-e '')

# to_maildir MAILDIR FILE...: the names sort in the order given.
to_maildir() {
  local box=$1 file seq=0 part
  shift
  install -d -o mail -g mail -m 700 "$box" "$box/tmp" "$box/new" "$box/cur"
  part=$(mktemp -d "$box/tmp/part.XXXXXX")
  for file in "$@"; do
    seq=$((seq + 1))
    LC_ALL=C sed "${stored_lines[@]}" "$file" >"$part/$EPOCHSECONDS.M${EPOCHREALTIME#*[.,]}P$$Q$seq.test"
  done
  chown -R mail:mail "$part"
  chmod -R u=rwX,go= "$part"
  find "$part" -type f -print0 | sort -z | xargs -0r mv -t "$box/new"
  rmdir "$part"
}

count_maildir() { { find "$1/new" "$1/cur" -type f 2>/dev/null || true; } | wc -l; }

# to_mbox MBOX OWNER GROUP FILE...: append as an MTA does: a From_ line before, ">" before inner From_ lines, a
# missing last newline added, an empty line after.
to_mbox() {
  local box=$1 owner=$2 group=$3 file from
  shift 3
  from="From test@localhost $(LC_ALL=C date '+%a %b %e %T %Y')"
  for file in "$@"; do
    echo "$from"
    LC_ALL=C sed "${stored_lines[@]}" -e 's/^>*From />&/' -e "\$a\\" "$file"
    echo
  done >"$box.part.$$"
  {
    flock 9
    cat "$box.part.$$" >&9
  } 9>>"$box"
  rm -f "$box.part.$$"
  chown "$owner:$group" "$box" && chmod 660 "$box"
}

# POP3 says of an mbox what it says of it; this counts the From_ lines that follow an empty line or open the file.
count_mbox() { [ -e "$1" ] || { echo 0; return; }; LC_ALL=C awk 'BEGIN {e = 1} e && /^From / {n++} {e = ($0 == "")} END {print n + 0}' "$1"; }

# For servers that know both, by STORE: mbox, the default, or maildir. Needs maildrop, and DIR/etc/passwd.
STORE=${STORE:-mbox}

store_deliver() {
  local box owner
  box=$(maildrop "$1" "$2")
  owner=$(user_id "$1" "$2")
  if [ "$STORE" = mbox ]; then
    to_mbox "$box" "$owner" mail "${@:3}"
  else
    to_maildir "$box" "${@:3}"
    chown -R "$owner:mail" "$box"
  fi
}

store_count() { if [ "$STORE" = mbox ]; then count_mbox "$(maildrop "$1" "$2")"; else count_maildir "$(maildrop "$1" "$2")"; fi; }

# ---- the interface ----

json_string() { local s=${1//\\/\\\\}; printf '"%s"' "${s//\"/\\\"}"; }

# report DIR PORT TLSPORT [MORE]: the line that start prints; MORE is `"key":value,...`. Needs maildrop DIR USER.
report() {
  local dir=$1 sep=
  printf '{"pid":%s,"port":%s,"tlsPort":%s,"ca":%s,%s"users":[' \
    "$(cat "$dir/pid")" "$2" "${3:-null}" "$(json_string "$dir/ca.pem")" "${4:+$4,}"
  for n in $(seq "$USERS"); do
    printf '%s{"user":"u%s","pass":"p%s","maildir":%s}' "$sep" "$n" "$n" "$(json_string "$(maildrop "$dir" "u$n")")"
    sep=,
  done
  printf ']}\n'
}

server_main() {
  local verb=${1:-}
  [ $# -eq 0 ] || shift
  [[ $verb = install* ]] || [ $# -ge 1 ] || die "usage: $NAME.sh install | installed | start DIR PORT [TLSPORT] | deliver DIR USER FILE... | count DIR USER | stop DIR"
  local dir=${1:-} n
  [ $# -eq 0 ] || shift
  case $verb in
    installed) [ -e "$PKGROOT/.done" ] && for n in $TOOLS; do command -v "${n%:*}" >/dev/null || exit 1; done ;;
    install)
      # test files that run side by side must not install side by side
      mkdir -p "${PKGROOT%/*}"
      exec 9>"${PKGROOT%/*}/.lock"
      flock 9
      for n in $TOOLS; do
        command -v "${n%:*}" >/dev/null || apt_install "${n#*:}"
      done
      do_install
      exec 9>&-
      ;;
    start)
      [ $# -ge 1 ] || die 'start DIR PORT [TLSPORT]'
      [ "$(id -u)" = 0 ] || die 'must be run by root'
      mkdir -p "$dir"
      dir=$(cd "$dir" && pwd -P)
      chmod 711 "$dir"
      case $dir in *[:,\ ]*) die 'DIR must hold no colon, comma or space' ;; esac
      setpriv --reuid=65534 --regid=65534 --clear-groups test -x "$dir" || die "other users must be able to reach DIR: chmod o+x its parents"
      ! alive "$dir" || die "already running in $dir"
      for n in "${@:1:2}"; do ! answers "$n" || die "port $n is taken"; done
      make_certs "$dir"
      do_start "$dir" "$@"
      ;;
    deliver | count | _inside)
      dir=$(cd "$dir" && pwd)
      "do_$verb" "$dir" "$@"
      ;;
    stop) do_stop "$dir" ;;
    *) die "no such command: $verb" ;;
  esac
}
