#!/bin/bash
# test_device_cache.sh BIN MAKE_WEIGHTS TINY_TRAIN - on the emulator a model has the same bytes wherever the frozen features are
# kept: nowhere, in the device's memory, in pinned host memory, in a file; and `auto` takes the first of these that has room.
. "$(dirname "$0")/../train/toy.sh"
unset ADZE_BACKEND_PATH
export ADZE_CUSIM_CHECKS=fast ADZE_THREADS=1 ADZE_DEVICE=cusim ADZE_DATA=toy ADZE_SIZE=32 ADZE_BATCH=2 ADZE_EPOCHS=2 ADZE_SEED=3
tiny=("$3" --method tiny --weights resnet18.h5 --class product_01)

in_plan() { # FILE PATTERN PATTERN: of the device's part and of the host's
  grep 'device memory of' "$1" | grep -q "$2" && grep ': peak memory of' "$1" | grep -q "$3" ||
    complain "the plan of $1: $(cat "$1")"
}
train() { # RUN OPTIONS...
  local run=$1
  shift
  "${tiny[@]}" "$@" --out "$run" >"$run.txt" 2>&1 || complain "$run: $(cat "$run.txt")"
}
train off --cache off
for cache in device memory file.h5 auto; do
  train in-$cache --cache $cache
  same off/product_01/model.h5 in-$cache/product_01/model.h5
  cut -d, -f1-4 off/product_01/train.csv >a.csv
  cut -d, -f1-4 in-$cache/product_01/train.csv >b.csv
  same a.csv b.csv
done
in_plan off.txt 'are free' 'in use'
! grep -q 'features of the frozen part' off.txt || complain "features without a cache: $(cat off.txt)"
for run in in-device in-auto; do
  in_plan $run.txt 'features of the frozen part .* to come' 'in use'
  ! grep 'peak memory' $run.txt | grep -q 'features of the frozen part' || complain "$run: on the host as well: $(cat $run.txt)"
done
in_plan in-memory.txt 'are free' 'features of the frozen part'
in_plan in-file.h5.txt 'are free' 'tables of the feature cache'

# What is found in a file is the same again; and a run that is resumed may keep its features elsewhere.
train found --cache file.h5
grep -q 'features of 6 of 6 pictures were in the cache' found.txt || complain "found: $(cat found.txt)"
same off/product_01/model.h5 found/product_01/model.h5

# Less and less memory: the device's, the host's, a file.
peak=$(sed -n 's/.*"peak_device_memory_bytes": \([0-9]*\).*/\1/p' off/run.json | head -n1)
export ADZE_CUSIM_MEMORY=$((peak + 1000))
train short
grep -q "features do not fit in the device's memory" short.txt || complain "short: $(cat short.txt)"
same off/product_01/model.h5 short/product_01/model.h5
expect 4 "*features of the frozen part*--cache memory*" "${tiny[@]}" --cache device --out no
unset ADZE_CUSIM_MEMORY
train off128 --size 128 --cache off
export ADZE_CUSIM_MEMORY=$(sed -n 's/.*"peak_device_memory_bytes": \([0-9]*\).*/\1/p' off128/run.json | head -n1)
went=0
for limit in 50 55 60 65 70 75 80 85; do
  rm -rf auto
  "${tiny[@]}" --size 128 --memory-limit ${limit}00000 --out auto >auto.txt 2>&1 || continue
  grep -q 'do not fit in memory.*auto/product_01/cache.h5' auto.txt && went=1
  same off128/product_01/model.h5 auto/product_01/model.h5
done
[ $went = 1 ] || complain "auto never took a file: $(cat auto.txt)"
exit $failed
