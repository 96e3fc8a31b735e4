#!/bin/sh
# Starts nginx in a container. nginx does not read /etc/resolv.conf, but must resolve the name `api` again while it runs.
# Docker's name server is always 127.0.0.11; Podman's is the gateway of the network. So the container's own name servers
# are written to resolver.conf, which upstream.conf includes. An IPv6 address needs brackets there, and has no zone.
#   start.sh RESOLV_CONF RESOLVER_CONF COMMAND...
set -eu
servers=$(awk '$1 == "nameserver" { sub(/%.*/, "", $2); print ($2 ~ /:/ ? "[" $2 "]" : $2) }' "$1" | tr '\n' ' ')
if [ -z "$servers" ]; then
    echo "start.sh: $1 names no name server" >&2
    exit 1
fi
echo "resolver ${servers}valid=5s ipv6=off;" > "$2"
shift 2
exec "$@"
