# What the setup scripts share; they source it after naming themselves:
#
#   script=setup_env.sh            how messages call it
#   default_venv=.venv             the environment, unless its name is the first argument
#   pins=constraints.txt           the pins: a change of them brings the environment up to date
#   watched=(…)                    further files whose change does
#   pythons="3.11 3.12"            versions of Python for which the pins were made; 3.11 if it says nothing
#
# Then `fresh` says whether there is nothing to do, `make_venv` makes the environment or repairs what an interruption
# left, `pip` is its pip, `install_locked` installs a lock file, and `finish` marks the environment as made.
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
cd "$root"  # constraints are named by relative paths, so a space in the path does no harm
venv="${1:-$default_venv}"
case "$venv" in /*) ;; *) venv="$root/$venv" ;; esac
pythons="${pythons:-3.11}"
stamp="$venv/.gream-environment"

say() { printf '%s\n' "$*" >&2; }
fail() { say "$script: $*"; exit 2; }

works() { "$1" -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] not in sys.argv[1].split())' "$pythons" 2>/dev/null; }

# The interpreter that PYTHON names, or else the one of an environment that is there, or the first that this machine has.
python="${PYTHON:-}"
if [ -z "$python" ]; then
    of_the_environment="$("$venv/bin/python" -c 'import sys; print(sys._base_executable)' 2>/dev/null || true)"
    for python in $of_the_environment $(printf 'python%s ' $pythons) python3 "python${pythons%% *}"; do
        if works "$python"; then break; fi
    done
fi
interpreter="$("$python" --version 2>&1 || true)"

wanted="$( { printf '%s\n' "$root" "$venv" "$interpreter"; cat "$pins" pyproject.toml scripts/environment.sh "scripts/$script" "${watched[@]}"; } | sha256sum | cut -d' ' -f1)"

fresh() { [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && [ -x "$venv/bin/gream" ]; }

pip() { "$venv/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }

make_venv() {
    local one="${pythons%% *}"
    command -v "$python" >/dev/null || fail "$python is not there: install Python $one, or name it, PYTHON=/path/to/python$one"
    works "$python" || fail "$python is not Python ${pythons// / or }, for which $pins was made"

    # An environment cannot be moved: one that came with a copied folder is made anew, and one of another Python too.
    local prefix made_for
    prefix="$("$venv/bin/python" -c 'import sys; print(sys.prefix)' 2>/dev/null || true)"
    made_for="$(cat "$venv/.gream-root" 2>/dev/null || printf %s "$root")"
    if [ -e "$venv" ] && { [ "$prefix" != "$venv" ] || [ "$made_for" != "$root" ] ||
            [ "$("$venv/bin/python" --version 2>&1)" != "$interpreter" ]; }; then
        [ -e "$venv/pyvenv.cfg" ] || fail "$venv is there and is no Python environment: remove it or name another folder"
        say "== $venv does not work here: making it anew"
        rm -rf "$venv"
    fi
    if [ ! -e "$venv" ]; then
        say "== Making $venv (about 3 minutes after the downloads)"
        "$python" -m venv "$venv"
    fi
    printf %s "$root" > "$venv/.gream-root"
    rm -f "$stamp"

    packages="$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')"
    # What an interrupted pip left half-written has no RECORD; pip would take it for installed.
    find "$packages" -maxdepth 1 -name '*.dist-info' | while IFS= read -r info; do
        [ -e "$info/RECORD" ] || rm -rf "$info"
    done
}

# Exactly what a lock file lists. uv downloads and unpacks in parallel, and environments share what they have in common:
# the second one of a machine costs neither the downloads nor the disk of PyTorch's CUDA libraries again.
install_locked() {
    pip install --quiet "uv==0.13.9"
    # uv does not read pip's configuration, which says where packages come from.
    local index
    index="$(pip config get global.index-url 2>/dev/null || true)"
    UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-${PIP_INDEX_URL:-${index:-}}}"
    if [ -n "$UV_DEFAULT_INDEX" ]; then export UV_DEFAULT_INDEX; else unset UV_DEFAULT_INDEX; fi
    "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps --requirement "$1"
}

finish() {
    printf %s "$wanted" > "$stamp"
    say "== $venv is ready"
}
