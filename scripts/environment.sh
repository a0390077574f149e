# What the three setup scripts share; they source it after naming themselves:
#
#   script=setup_env.sh            how messages call it
#   default_venv=.venv             the environment, unless its name is the first argument
#   pins=constraints.txt           the pins: a change of them brings the environment up to date
#   watched=(…)                    further files whose change does
#
# Then `fresh` says whether there is nothing to do, `make_venv` makes the environment or repairs what an interruption
# left, `pip` is its pip, and `finish` marks it as made.
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
cd "$root"  # constraints are named by relative paths, so a space in the path does no harm
venv="${1:-$default_venv}"
case "$venv" in /*) ;; *) venv="$root/$venv" ;; esac
python="${PYTHON:-python3.11}"
stamp="$venv/.gream-environment"

say() { printf '%s\n' "$*" >&2; }
fail() { say "$script: $*"; exit 2; }

wanted="$( { printf '%s\n' "$root" "$venv"; cat "$pins" pyproject.toml scripts/environment.sh "scripts/$script" "${watched[@]}"; } | sha256sum | cut -d' ' -f1)"

fresh() { [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && [ -x "$venv/bin/gream" ]; }

pip() { "$venv/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }

make_venv() {
    command -v "$python" >/dev/null || fail "$python is not there: install Python 3.11, or name it, PYTHON=/path/to/python3.11"
    "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || fail "$python is not Python 3.11, for which $pins was made"

    # An environment cannot be moved: one that came with a copied folder is made anew.
    local prefix made_for
    prefix="$("$venv/bin/python" -c 'import sys; print(sys.prefix)' 2>/dev/null || true)"
    made_for="$(cat "$venv/.gream-root" 2>/dev/null || printf %s "$root")"
    if [ -e "$venv" ] && { [ "$prefix" != "$venv" ] || [ "$made_for" != "$root" ]; }; then
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

finish() {
    printf %s "$wanted" > "$stamp"
    say "== $venv is ready"
}
