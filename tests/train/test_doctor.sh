#!/bin/bash
# test_doctor.sh BIN - adze-doctor: text and JSON, status 0 without a GPU, and the same verdict as --device auto.
set -u
doctor=$1/adze-doctor
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME=$work XDG_CACHE_HOME=$work/cache
failed=0
complain() { printf '%s\n' "$*"; failed=1; }

mkdir -p "$work/cache/adze/plans" && : >"$work/cache/adze/resnet18.h5" && : >"$work/cache/adze/plans/one"
"$doctor" >"$work/text" || complain "it gave $?"
for word in 'version ' 'processors ' 'memory ' 'oneDNN' 'resnet18.h5' 'plans  *1 in ' 'auto '; do
  grep -q "$word" "$work/text" || complain "no '$word' in: $(cat "$work/text")"
done
"$doctor" --log json >"$work/json" || complain "--log json gave $?"
python3 - "$work/json" <<'PY' || complain "JSON: $(cat "$work/json")"
import json, sys
page = json.load(open(sys.argv[1]))
assert set(page) == {"adze", "cpu", "cuda", "cusim", "cache", "verdict"}, page.keys()
assert page["verdict"]["auto"] == ("cuda" if page["cuda"]["usable"] == "yes" else "cpu only")
PY
"$doctor" --nonsense 2>/dev/null
[ $? = 2 ] || complain "--nonsense gave another status than 2"
exit $failed
