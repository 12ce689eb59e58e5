#!/bin/bash
# test_disk.sh BIN MAKE_WEIGHTS - folders that cannot be written and disks that are full: exit status 4 with the file's name,
# nothing half-written, and what was there before stays. Full disks need root, or a user namespace, to mount a small one.
. "$(dirname "$0")/toy.sh"
one=(--data toy --class product_01 --log quiet)
expect 0 '*' adze-train "${model[@]}" "${one[@]}" --out run

# A folder without permission. Root may write anywhere: then somebody else tries.
mkdir locked && chmod 555 locked
other=()
if [ "$(id -u)" = 0 ]; then
  other=(setpriv --reuid=65534 --regid=65534 --clear-groups)
  command -v setpriv >/dev/null || { echo "SKIPPED: unwritable folders: root without setpriv" >&2; other=(); }
  if [ ${#other[@]} -gt 0 ] && ! "${other[@]}" test -x "$bin/adze-train"; then
    mkdir programs && cp "$bin"/adze-* programs/ && PATH=$work/programs:$PATH # the build folder is closed to others
  fi
fi
if [ "$(id -u)" != 0 ] || [ ${#other[@]} -gt 0 ]; then
  expect 4 '*locked/*: *' "${other[@]}" adze-train "${model[@]}" "${one[@]}" --out locked/run
  expect 4 '*locked: *' "${other[@]}" adze-eval --model run "${one[@]}" --out locked
  expect 4 '*locked/*: *' "${other[@]}" adze-eval --model run "${one[@]}" --out locked/result
  expect 4 '*locked*: *' "${other[@]}" adze-predict --model run/product_01/model.h5 --out locked/out toy/product_01/test/good
fi
expect 4 '*toy/product_01/test/good/000.png*' adze-train "${model[@]}" "${one[@]}" --out toy/product_01/test/good/000.png

# A full disk: inside a mount that nobody else sees.
namespaces=-rm
[ "$(id -u)" != 0 ] || namespaces=-m
full() { # SIZE COMMAND...: with the small folder `disk`
  unshare $namespaces bash -c 'mount -t tmpfs -o size=$0 none disk || exit 99; "$@"' "$@"
}
mkdir disk
if ! full 64k true 2>/dev/null; then
  echo "SKIPPED: full disks: this user may not mount a small one" >&2
  exit $failed
fi
export -f expect complain nothing_half
export failed bin work
full 4m bash -c '
  model=('"${model[*]}"') one=('"${one[*]}"')
  expect 4 "*disk/run/product_01/model.h5*" adze-train "${model[@]}" "${one[@]}" --out disk/run
  [ -e disk/run/product_01/model.h5 ] && complain "half a model"
  nothing_half disk
  exit $failed' || failed=1
full 18m bash -c '
  model=('"${model[*]}"') one=('"${one[*]}"')
  expect 0 "*" adze-train "${model[@]}" "${one[@]}" --out disk/run
  cp disk/run/product_01/model.h5 old.h5
  expect 4 "*disk/run/product_01/model.h5*" adze-train "${model[@]}" "${one[@]}" --seed 9 --out disk/run --force
  cmp -s disk/run/product_01/model.h5 old.h5 || complain "the old model did not stay"
  nothing_half disk
  exit $failed' || failed=1
rd=(adze-train --method rd --backbone resnet18 --weights resnet18.h5 --size 64 --batch 2 --epochs 1)
full 400k bash -c '
  rd=('"${rd[*]}"') one=('"${one[*]}"')
  expect 4 "*disk/cache.h5: no room for * bytes of features: *--cache off*" "${rd[@]}" "${one[@]}" --cache disk/cache.h5 --out run-rd
  nothing_half disk
  exit $failed' || failed=1
full 20m bash -c '
  rd=('"${rd[*]}"') one=('"${one[*]}"')
  expect 4 "*disk/run/product_01/train.h5*" "${rd[@]}" "${one[@]}" --out disk/run
  nothing_half disk
  exit $failed' || failed=1
for size in 8k 40k 100k; do
  full $size bash -c '
    one=('"${one[*]}"')
    expect 4 "*disk/*" adze-eval --model run "${one[@]}" --out disk/result --save-maps
    nothing_half disk
    exit $failed' || failed=1
done
full 2m bash -c '
  one=('"${one[*]}"')
  expect 0 "*" adze-eval --model run "${one[@]}" --out disk/result --heatmaps=no
  cp -r disk/result old
  head -c 4m /dev/zero >disk/full 2>/dev/null
  expect 4 "*disk/result/*" adze-eval --model run "${one[@]}" --out disk/result --heatmaps=no --force
  for file in metrics.json scores.csv report.html; do cmp -s disk/result/$file old/$file || complain "the old $file did not stay"; done
  nothing_half disk
  exit $failed' || failed=1
exit $failed
