#!/bin/bash
# Debian's PostgreSQL with as much of the official image's contract as compose.yaml needs, where none can be pulled.
set -euo pipefail
data=/var/lib/postgresql/data
bin=$(echo /usr/lib/postgresql/*/bin)
chown postgres "$data"
if ! [[ -s $data/PG_VERSION ]]; then
  install -o postgres -m 600 "$POSTGRES_PASSWORD_FILE" /tmp/password
  setpriv --reuid postgres --regid postgres --clear-groups "$bin/initdb" --pgdata "$data" --username "$POSTGRES_USER" \
    --pwfile /tmp/password --auth-host scram-sha-256 --auth-local trust
  rm /tmp/password
  echo "host all all all scram-sha-256" >>"$data/pg_hba.conf"
  echo "CREATE DATABASE $POSTGRES_DB" |
    setpriv --reuid postgres --regid postgres --clear-groups "$bin/postgres" --single -D "$data" postgres
fi
ln -sf "$bin/pg_isready" /usr/local/bin/
exec setpriv --reuid postgres --regid postgres --clear-groups \
  "$bin/postgres" -D "$data" -c listen_addresses='*' -c unix_socket_directories=/tmp
