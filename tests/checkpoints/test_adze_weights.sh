#!/bin/bash
# test_adze_weights.sh BIN - the program: verbs, exit statuses, what goes to which stream.
set -u
bin=$1/adze-weights
files=tests/golden/weights/files
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
failed=0

# want CODE PATTERN ARGUMENTS...: exit status, and a regular expression that stdout (status 0) or stderr (else) shows.
want() {
  local code=$1 pattern=$2 got stream=err
  shift 2
  "$bin" "$@" >"$work/out" 2>"$work/err"
  got=$?
  [ "$code" = 0 ] && stream=out
  if [ $got != "$code" ] || ! grep -qE -- "$pattern" "$work/$stream"; then
    echo "adze-weights $*: status $got, want $code and '$pattern' in std$stream:"
    cat "$work/out" "$work/err"
    failed=1
  fi
}

want 0 'conv1.weight.f32.\[4,3,3,3\]' list $files/state_dict.pth
want 0 '"format": "torch_legacy"' list $files/legacy.pth --json
want 0 '"state_dict.epoch"|"epoch": 12' list $files/wrapped_module.pth --json
want 0 'sound torch_zip, 9 tensors' verify $files/wrapped_module.pth
want 3 'argparse.Namespace|numpy' list $files/opaque.pth --strict
want 3 'unsafe_global: ALERT.*os.system' list $files/z01_os_system.pth
want 3 'an HTML' verify $files/z14_html.pth
want 3 'cannot open|no such' list "$work/absent.pth"
want 3 'missing +layer3.1.bn2.bias \[256\]' verify $files/state_dict.pth --as resnet18
want 3 'not weights of resnet18' import $files/state_dict.pth --as resnet18 -o "$work/x.h5"
[ -e "$work/x.h5" ] && { echo "a refused import left a file"; failed=1; }
want 2 "did you mean 'resnet18'" import $files/state_dict.pth --as resnet81 -o "$work/x.h5"
want 2 'no backbone given' import $files/state_dict.pth -o "$work/x.h5"
want 2 'no file to write' import $files/state_dict.pth --as resnet18
want 2 "did you mean 'list'" lsit $files/state_dict.pth
want 2 'no file given' list
want 2 'no verb'
want 4 'host bytes|no memory' list $files/clip_tiny_jit.pt --memory-limit 100K
want 0 '/model/w' list tests/fuzz/seeds/checkpoint.h5
want 3 'no seal' verify tests/fuzz/seeds/checkpoint.h5
exit $failed
