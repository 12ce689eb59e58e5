#!/bin/bash
# test_adze.sh PROGRAM - the driver runs what lies beside it, passes arguments and status on, and names what is near.
set -u
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
cp "$1" "$bin/adze"
printf '#!/bin/sh\necho "train:$#:$1:$2"\nexit 7\n' >"$bin/adze-train"
printf '#!/bin/sh\necho eval "$@"\n' >"$bin/adze-eval"
chmod +x "$bin"/adze-*
failed=0

expect() { # STATUS OUTPUT-PATTERN COMMAND...
  local status=$1 pattern=$2 out code
  shift 2
  out=$("$@" 2>&1)
  code=$?
  [ $code = "$status" ] && [[ $out == $pattern ]] && return
  printf '%s\n  gave %s: %s\n  want %s: %s\n' "$*" "$code" "$out" "$status" "$pattern"
  failed=1
}
expect 7 'train:2:--size:3 4' "$bin/adze" train --size '3 4'
expect 0 'eval --help' "$bin/adze" help eval
expect 0 'adze [0-9]*.[0-9]*.[0-9]*' "$bin/adze" --version
expect 0 'usage: adze VERB*  eval *  train *' "$bin/adze"
expect 0 'usage: adze VERB*' "$bin/adze" --help
expect 2 "adze: unknown verb 'trian', did you mean 'train'?*" "$bin/adze" trian
expect 2 "adze: unknown verb '../adze-eval', did you mean*" "$bin/adze" ../adze-eval
rm "$bin"/adze-*
expect 2 "adze: unknown verb 'train': no adze-\* program*" "$bin/adze" train
exit $failed
