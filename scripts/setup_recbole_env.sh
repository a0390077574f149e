#!/usr/bin/env bash
# Make the environment in which RecBole trains the baselines (`gream baselines recbole`): an own one, for it needs numpy 1.
#
#   scripts/setup_recbole_env.sh [VENV]     VENV defaults to .venv-recbole; PYTHON names the interpreter (default python3.11)
#
# 1.5 GB, about 2 minutes after the downloads. A second run does nothing; a run that was interrupted is finished by the next.
set -euo pipefail

script=setup_recbole_env.sh
default_venv=.venv-recbole
pins=constraints-recbole.txt
watched=(scripts/movielens.txt)
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

if fresh; then
    exit 0
fi
make_venv

say "== Installing RecBole and gream_ext"
# Exactly the list: RecBole 1.2.1 asks for an old Ray, which only its search for hyper-parameters uses.
pip install --quiet --no-deps --requirement constraints-recbole.txt
# The environment runs one program of ours, which needs numpy and torch: none of our other requirements.
pip install --quiet --no-deps --no-build-isolation --editable .

finish
