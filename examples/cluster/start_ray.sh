#!/usr/bin/env bash
# Start Ray on one machine of a cluster. On the first:
#
#   ./start_ray.sh head
#
# and on each of the others, with the address that the first one printed:
#
#   ./start_ray.sh worker 10.0.0.1:6379
#
# RAY_PORT (6379), RAY_DASHBOARD_PORT (8265) and GPUS (as many as there are) change the defaults; BLOCK=1 stays in the
# foreground until Ray ends, as srun wants it. Every machine needs the same environment and the same shared folder.
set -euo pipefail

# A head uses the token of `ray get-auth-token --generate` where there is one; whoever joins it has to be told.
if [ -z "${RAY_AUTH_MODE:-}" ] && [ -s "$HOME/.ray/auth_token" ]; then export RAY_AUTH_MODE=token; fi

say() { printf '%s\n' "$*" >&2; }

role="${1:-}"
options=(--disable-usage-stats)
if [ -n "${GPUS:-}" ]; then options+=(--num-gpus "$GPUS"); fi
if [ -n "${CPUS:-}" ]; then options+=(--num-cpus "$CPUS"); fi
if [ -n "${BLOCK:-}" ]; then options+=(--block); fi

case "$role" in
    head)
        # The dashboard takes the jobs of submit.sh. It listens on this machine only: whoever reaches it runs programs here.
        if [ -n "${NODE_IP:-}" ]; then options+=(--node-ip-address "$NODE_IP"); fi
        exec ray start --head --port "${RAY_PORT:-6379}" --dashboard-host 127.0.0.1 \
            --dashboard-port "${RAY_DASHBOARD_PORT:-8265}" "${options[@]}"
        ;;
    worker)
        [ $# -ge 2 ] || { say "start_ray.sh: the address of the head is missing: ./start_ray.sh worker HOST:PORT"; exit 2; }
        exec ray start --address "$2" "${options[@]}"
        ;;
    *)
        say "start_ray.sh: say head, or worker HOST:PORT"
        exit 2
        ;;
esac
