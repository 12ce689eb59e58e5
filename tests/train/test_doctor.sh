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
# The emulated device, and what it may lack.
if [ -e "$1/../lib/adze_cusim.so" ]; then
  export ADZE_BACKEND_PATH=$1/../lib
  says() { # LACKS PATTERN...
    local lacks=$1 text word
    shift
    text=$(ADZE_CUSIM_LACKS=$lacks "$doctor") || complain "without $lacks it gave $?"
    text=${text##*$'\ncusim\n'}
    for word; do grep -q "$word" <<<"$text" || complain "without $lacks no '$word' in: $text"; done
  }
  says nothing 'NCCL  *2\.28\.9, emulated' 'devices  *4' 'usable  *yes'
  says nccl 'NCCL  *not found: several ranks on GPUs need NCCL 2' 'usable  *yes'
  says driver 'usable  *no' 'state .*no GPU here (no NVIDIA driver)'
  says newer-driver 'usable  *no' 'state .*the NVIDIA driver is for CUDA 12\.4, this build wants 13\.0'
  says kernels 'usable  *no' 'state .*is sm_89, and this build has no kernels for it.*-DADZE_CUDA_ARCHS=89'
else echo "without adze_cusim.so: what an emulated device says is left out" >&2; fi
"$doctor" --nonsense 2>/dev/null
[ $? = 2 ] || complain "--nonsense gave another status than 2"
exit $failed
