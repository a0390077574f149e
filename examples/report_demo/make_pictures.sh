#!/bin/sh
# The pictures of the report in docs/images, from made-up data. Needs gream-ext and Chromium.
#
#   examples/report_demo/make_pictures.sh
set -eu
here=$(cd "$(dirname "$0")" && pwd)
images="$here/../../docs/images"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$images"

python "$here/make_demo.py" "$work/demo"
gream report --workspace "$work/demo" --title "Film club" \
    --banner "Made-up users, items and figures: a demonstration of the report."

picture() { # name, height, what to show of the page (a CSS selector; nothing: all of it)
    page="$work/$1.html"
    sed "s/<body>/<body><style>${3:+main > :not($3) { display: none }}<\/style>/" "$work/demo/report.html" > "$page"
    chromium --headless --no-sandbox --disable-gpu --disable-background-networking --hide-scrollbars \
        --user-data-dir="$work/browser" --window-size="1180,$2" --screenshot="$images/$1.png" "file://$page" 2>/dev/null
}
picture report 1900
picture report-training 1680 "#sft, #rl"
picture report-users 1280 "#users"
