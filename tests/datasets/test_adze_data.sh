#!/bin/bash
# test_adze_data.sh PROGRAM - the program adze-data: verbs, exit status, output, messages.
set -u
data=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
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
synth=(--classes 1 --train 2 --test-good 1 --test-bad 4 --size 64 --log quiet)
expect 0 'usage: adze-data check*--seed N*' "$data" --help
expect 0 'adze-data [0-9]*.[0-9]*.[0-9]*' "$data" --version
expect 2 '*no verb*' "$data"
expect 2 "*unknown verb 'chekc', did you mean 'check'?" "$data" chekc toy
expect 2 '*no data root*' "$data" check
expect 2 '*--sede*--seed*' "$data" synth toy --sede 3
expect 2 '*--classes: 0*' "$data" synth toy --classes 0
expect 2 '*size 16, want 32*' "$data" synth tiny --size 16
expect 3 '*toy: no such folder*' "$data" check toy
expect 0 'toy: 1 classes, each 2 training*' "$data" synth toy "${synth[@]}"
expect 2 '*holds a data set already; --force*' "$data" synth toy "${synth[@]}"
expect 0 '*' "$data" synth toy "${synth[@]}" --force
expect 0 '*product_01 *2 *1 *4 *4 *4 *64 x 64*0 errors, 0 warnings*' "$data" check toy --size 64 --log quiet
expect 0 '*"n_errors": 0*' "$data" check toy --size 64 --json --log quiet
expect 0 $'class\tsplit\tlabel\tdefect\timage\tmask\nproduct_01\ttrain\tgood\tgood\tproduct_01/train/good/000.png\t*product_01/ground_truth/stain/000_mask.png' "$data" list toy
expect 0 '*"mask": "product_01/ground_truth/broken/000_mask.png"*' "$data" list toy --json
expect 0 $'product_01\t[0-9a-f]*' "$data" list toy --manifest
expect 3 "*no class 'product_1', did you mean 'product_01'?" "$data" list toy --class product_1
first=$("$data" list toy --manifest)
expect 0 '*' "$data" synth again "${synth[@]}"
[ "$first" = "$("$data" list again --manifest)" ] || { echo "the same seed gave other bytes"; failed=1; }
expect 0 '*' "$data" synth other "${synth[@]}" --seed 2
[ "$first" != "$("$data" list other --manifest)" ] || { echo "another seed gave the same bytes"; failed=1; }
rm toy/product_01/ground_truth/stain/000_mask.png
head -c 200 toy/product_01/train/good/001.png >cut && mv cut toy/product_01/train/good/001.png
expect 3 '*error: product_01/test/stain/000.png: *without a mask*error: product_01/train/good/001.png: PNG: truncated*2 errors, 0 warnings*adze-data: toy: 2 errors*' \
  "$data" check toy --size 64 --log quiet
expect 4 '*cannot write*' bash -c "'$data' list again >/dev/full"
expect 4 '*/proc/nowhere*' "$data" synth /proc/nowhere "${synth[@]}"
exit $failed
