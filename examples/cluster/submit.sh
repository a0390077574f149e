#!/usr/bin/env bash
# Hand a reinforcement run to a Ray cluster that start_ray.sh has started, from its first machine:
#
#   NODES=4 GPUS=8 ./submit.sh '+gream=srpo' workspace=/shared/runs/instruments
#
# Everything after the name of the script goes to Verl. The run belongs to the cluster: ending this script leaves it
# running (`ray job list`, `ray job logs`, `ray job stop`); the same command again goes on from the last checkpoint.
# RAY_API_SERVER_ADDRESS names the dashboard (http://127.0.0.1:8265), PYTHON the interpreter on every machine.
set -euo pipefail

# A head uses the token of `ray get-auth-token --generate` where there is one; whoever joins it has to be told.
if [ -z "${RAY_AUTH_MODE:-}" ] && [ -s "$HOME/.ray/auth_token" ]; then export RAY_AUTH_MODE=token; fi

[ $# -gt 0 ] || { printf '%s\n' "submit.sh: what to train is missing: ./submit.sh '+gream=srpo' workspace=FOLDER" >&2; exit 2; }

# A job joins the cluster as it is: what the recipe cpu says of a Ray of its own must be unsaid.
exec ray job submit --address "${RAY_API_SERVER_ADDRESS:-http://127.0.0.1:8265}" -- \
    "${PYTHON:-python}" -m verl.trainer.main_ppo "$@" \
    "trainer.nnodes=${NODES:-1}" "trainer.n_gpus_per_node=${GPUS:-8}" \
    ray_kwargs.ray_init.num_cpus=null ++ray_kwargs.ray_init.num_gpus=null
