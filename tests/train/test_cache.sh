#!/bin/bash
# test_cache.sh BIN MAKE_WEIGHTS TINY_TRAIN - a model has the same bytes whether the frozen features were computed in every
# epoch, kept in memory, kept in a file, or found in one that other classes, runs, methods and killed processes wrote to.
. "$(dirname "$0")/toy.sh"
tiny_train=$3
export ADZE_SIZE=32 ADZE_SEED=3 ADZE_DATA=toy ADZE_BATCH=2 ADZE_EPOCHS=2 ADZE_THREADS=1 # the command line may say otherwise
tiny=("$tiny_train" --method tiny --weights resnet18.h5)
rd=(adze-train --method rd --backbone resnet18 --weights resnet18.h5 --class product_01)
core=(adze-train --method patchcore --backbone resnet18 --weights resnet18.h5 --set coreset=0.2 --class product_01)
found() { # CLASS COUNT OUTPUT: COUNT pictures of CLASS were in the cache
  if [ "$2" = 0 ]; then ! grep -q "$1: features of .* were in the cache" "$3" || complain "$1: found some: $(cat "$3")"
  else grep -q "$1: features of $2 of [56] pictures were in the cache" "$3" || complain "$1: want $2 of 6: $(cat "$3")"; fi
}
same_models() { # RUN RUN
  for class in product_01 product_02; do same "$1/$class/model.h5" "$2/$class/model.h5"; done
}

# Nowhere, in memory, in a file that is new, and in the same file again: by both classes, with other epochs, by classes side by side.
expect 0 '*' "${tiny[@]}" --cache off --out off
"${tiny[@]}" --cache memory --out memory >memory.txt 2>&1 || complain "memory: $(cat memory.txt)"
found product_01 0 memory.txt
same_models off memory
"${tiny[@]}" --cache shared.h5 --out new >new.txt 2>&1 || complain "new: $(cat new.txt)"
found product_01 0 new.txt
found product_02 0 new.txt
same_models off new
cp shared.h5 before.h5
"${tiny[@]}" --cache shared.h5 --out again >again.txt 2>&1 || complain "again: $(cat again.txt)"
found product_01 6 again.txt
found product_02 6 again.txt
same_models off again
same shared.h5 before.h5
"${tiny[@]}" --cache off --epochs 3 --seed 4 --class product_02 --out off3 >/dev/null 2>&1
"${tiny[@]}" --cache shared.h5 --epochs 3 --seed 4 --class product_02 --out again3 >again3.txt 2>&1 || complain "again3: $(cat again3.txt)"
found product_02 6 again3.txt
same off3/product_02/model.h5 again3/product_02/model.h5
expect 0 '*' "${tiny[@]}" --cache jobs.h5 --jobs 2 --out jobs
same_models off jobs
"${tiny[@]}" --cache jobs.h5 --jobs 2 --out jobs2 >jobs2.txt 2>&1 || complain "jobs2: $(cat jobs2.txt)"
found product_01 6 jobs2.txt
found product_02 6 jobs2.txt
same_models off jobs2

# Another batch and another number of threads find the same features; another size, other weights and other bytes do not.
expect 0 '*' "${tiny[@]}" --cache off --batch 3 --threads 2 --class product_01 --out off-batch
"${tiny[@]}" --cache shared.h5 --batch 3 --threads 2 --class product_01 --out batch >batch.txt 2>&1
found product_01 6 batch.txt
same off-batch/product_01/model.h5 batch/product_01/model.h5
"${tiny[@]}" --cache shared.h5 --size 64 --class product_01 --out size >size.txt 2>&1
found product_01 0 size.txt
cp -r toy changed
cp toy/product_02/train/good/000.png changed/product_01/train/good/003.png
"${tiny[@]}" --data changed --cache shared.h5 --class product_01 --out changed-run >changed.txt 2>&1 || complain "changed: $(cat changed.txt)"
found product_01 6 changed.txt # a picture of the other class, known as well
rm changed/product_01/train/good/003.png
cp toy/product_01/test/good/000.png changed/product_01/train/good/003.png
"${tiny[@]}" --data changed --cache shared.h5 --class product_01 --out changed-run --force >changed.txt 2>&1 || complain "changed: $(cat changed.txt)"
found product_01 5 changed.txt
expect 0 '*' "${tiny[@]}" --data changed --cache off --class product_01 --out changed-off
same changed-off/product_01/model.h5 changed-run/product_01/model.h5

# PatchCore reads two of the three values that reverse distillation wrote, and the other way round.
expect 0 '*' "${rd[@]}" --cache off --out rd-off
expect 0 '*' "${rd[@]}" --cache rd.h5 --out rd-new
same rd-off/product_01/model.h5 rd-new/product_01/model.h5
cp rd.h5 rd.copy
expect 0 '*' "${core[@]}" --out core-off
"${core[@]}" --cache rd.h5 --out core-found >core.txt 2>&1 || complain "patchcore: $(cat core.txt)"
found product_01 6 core.txt
same core-off/product_01/model.h5 core-found/product_01/model.h5
same rd.h5 rd.copy
"${core[@]}" --cache core.h5 --out core-new >core.txt 2>&1 || complain "patchcore: $(cat core.txt)"
found product_01 0 core.txt
same core-off/product_01/model.h5 core-new/product_01/model.h5
expect 0 '*' "${rd[@]}" --cache core.h5 --out rd-core
same rd-off/product_01/model.h5 rd-core/product_01/model.h5

# SimpleNet, CFlow and PatchCore share one file: whoever comes later computes nothing and adds nothing.
one_file() { # FILE METHOD FOUND [OPTION...]
  local file=$1 method=$2 found=$3
  shift 3
  local command=(adze-train --method "$method" --backbone resnet18 --weights resnet18.h5 --class product_01 --size 64 "$@")
  [ "$method" = patchcore ] || command+=(--epochs 1)
  [ -e "$method-alone" ] || expect 0 '*' "${command[@]}" --cache off --out "$method-alone"
  [ ! -e "$file" ] || cp "$file" one.copy
  "${command[@]}" --cache "$file" --out "one-$method" >one.txt 2>&1 || complain "$method with $file: $(cat one.txt)"
  found product_01 "$found" one.txt
  [ "$found" = 0 ] || same "$file" one.copy
  same "$method-alone/product_01/model.h5" "one-$method/product_01/model.h5"
  rm -rf "one-$method"
}
flow=(--set rotate=0 --set fiber=16 --set blocks=1 --set levels=2,3)
one_file first.h5 simplenet 0
one_file first.h5 patchcore 6 --set coreset=0.2
one_file first.h5 cflow 6 "${flow[@]}"
one_file second.h5 cflow 0 "${flow[@]}"
one_file second.h5 simplenet 6
one_file third.h5 patchcore 0 --set coreset=0.2
one_file third.h5 simplenet 6

# The other methods find what they wrote, every time.
for method in simplenet destseg; do
  other=(adze-train --method $method --backbone resnet18 --weights resnet18.h5 --class product_01 --size 64 --epochs 1)
  expect 0 '*' "${other[@]}" --cache off --out $method-off
  expect 0 '*' "${other[@]}" --cache $method.h5 --out $method-new
  cp $method.h5 $method.copy
  expect 0 '*' "${other[@]}" --cache $method.h5 --out $method-found
  same $method.h5 $method.copy
  same $method-off/product_01/model.h5 $method-new/product_01/model.h5
  same $method-off/product_01/model.h5 $method-found/product_01/model.h5
done

# The peak of memory that is announced before the start is the one that the system sees, within 5 %.
if grep -q __asan_init "$bin/adze-train"; then echo "SKIPPED: peak of memory: sanitizers have memory of their own" >&2
else
  forecast() { # NAME COMMAND...
    local name=$1
    shift
    expect 0 '*' "$@" --epochs 1 --out peak --force
    awk -v name="$name" '
      match($0, /"planned_memory_bytes": [0-9]+/) { split(substr($0, RSTART, RLENGTH), a, ": "); planned = a[2] }
      match($0, /"product_01".*"peak_memory_bytes": [0-9]+/) { split($0, b, /"peak_memory_bytes": /); measured = b[2] + 0 }
      END { r = measured > 0 ? planned / measured - 1 : 1
            if (r > 0.05 || r < -0.05) { print name ": planned " planned " bytes, measured " measured; exit 1 } }' peak/run.json || failed=1
  }
  for cache in off memory peak.h5; do forecast "cache $cache" "${rd[@]}" --size 64 --cache $cache; done
  forecast cflow adze-train --method cflow --backbone efficientnet_lite0 --weights efficientnet_lite0.h5 --class product_01 --size 64 --batch 4
  forecast simplenet adze-train --method simplenet --backbone resnet18 --weights resnet18.h5 --class product_01 --size 64 --batch 4
fi

# --memory-limit refuses what does not fit, and nothing else: a tenth above the peak that was counted is enough.
if ! grep -q __asan_init "$bin/adze-train"; then
  small=("${rd[@]}" --size 64 --epochs 1 --threads 1)
  "${small[@]}" --out peak --force 2>err.txt || complain "rd failed: $(cat err.txt)"
  peak=$(sed -n 's/.*peak \([0-9]*\) MiB.*/\1/p' err.txt | tail -n 1)
  expect 0 '*' "${small[@]}" --out peak --force --memory-limit $((peak * 11 / 10))M
  expect 4 "*needs *, --memory-limit is *" "${small[@]}" --out peak --force --memory-limit $((peak * 9 / 10))M
fi

# What is no cache, or a damaged one, is refused and stays, unless --force.
echo "somebody else's" >else.h5
cp else.h5 else.copy
expect 3 '*else.h5*' "${tiny[@]}" --cache else.h5 --out bad
expect 3 '*resnet18.h5*not a feature cache*' "${tiny[@]}" --cache resnet18.h5 --out bad
same else.h5 else.copy
expect 0 '*' "${tiny[@]}" --cache else.h5 --force --out bad
same_models off bad
expect 2 '*--cache device: device cpu has no memory of its own*' "${tiny[@]}" --cache device --out bad6
expect 2 '*memmory*auto, device, memory, off*.h5*' "${tiny[@]}" --cache memmory --out bad
expect 4 '*nowhere/cache.h5*--cache*' "${tiny[@]}" --cache nowhere/cache.h5 --out bad2
size=$(stat -c %s shared.h5)
cp shared.h5 cut.h5
truncate -s $((size - 100)) cut.h5
expect 3 '*cut.h5*' "${tiny[@]}" --cache cut.h5 --out bad3
cp before.h5 flipped.h5
printf 'damage' | dd of=flipped.h5 bs=1 seek=20000 conv=notrunc status=none
expect 3 '*flipped.h5: damaged*' "${tiny[@]}" --cache flipped.h5 --out bad4
expect 0 '*' "${tiny[@]}" --cache never.h5 --out bad5 --dry-run
[ ! -e never.h5 ] || complain "--dry-run made a cache"

# Without room for the features: a file in the run's folder until the end.
expect 0 '*' "${tiny[@]}" --size 256 --class product_01 --cache off --out off256
went=0
for limit in 16 18 20 22 24 26 28 30 32 34; do
  rm -rf auto
  "${tiny[@]}" --size 256 --class product_01 --memory-limit ${limit}M --out auto >auto.txt 2>&1 || continue
  grep -q 'do not fit in memory.*auto/product_01/cache.h5' auto.txt && went=1
  same off256/product_01/model.h5 auto/product_01/model.h5
  [ ! -e auto/product_01/cache.h5 ] || complain "auto: cache.h5 is left"
done
[ $went = 1 ] || complain "auto never took a file: $(cat auto.txt)"
exit $failed
