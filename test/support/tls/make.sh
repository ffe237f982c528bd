#!/bin/sh
# Makes the certificates of this folder anew: an authority, and what it signed. They are for tests on loopback only, and
# good for a hundred years, so that no test fails on a birthday.
set -eu
cd "$(dirname "$0")"
days=36500
key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null; }
key ca-key.tmp
openssl req -x509 -new -key ca-key.tmp -subj '/CN=mailferry test authority' -days $days -out ca.pem
sign() { # NAME SUBJECT_ALT_NAMES EXTRA...
  name=$1 san=$2
  shift 2
  key "$name-key.pem"
  openssl req -new -key "$name-key.pem" -subj "/CN=$name" -addext "subjectAltName=$san" -out "$name.csr.tmp"
  openssl x509 -req -in "$name.csr.tmp" -CA ca.pem -CAkey ca-key.tmp -copy_extensions copy -out "$name.pem" "$@" 2>/dev/null
}
sign server 'DNS:localhost,IP:127.0.0.1,IP:::1' -days $days
sign wrong-name 'DNS:wrong.example' -days $days
sign expired 'DNS:localhost,IP:127.0.0.1' -days -1
sign client 'email:worker@mailferry.test' -days $days
rm -f ./*.tmp
