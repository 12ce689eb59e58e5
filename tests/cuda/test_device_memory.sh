#!/bin/bash
# test_device_memory.sh BIN MAKE_WEIGHTS - device memory on the emulator: the peak that is announced before the start is the one
# that its allocator saw, within 5 %, and run.json has both; where memory is short, the programs name what did not fit, its
# size, what was free, and an option that helps, with status 4.
. "$(dirname "$0")/../train/toy.sh"
unset ADZE_BACKEND_PATH
export ADZE_CUSIM_CHECKS=fast ADZE_THREADS=1 ADZE_DEVICE=cusim ADZE_DATA=toy ADZE_CLASS=product_01
rd=(adze-train --method rd --backbone resnet18 --weights resnet18.h5 --size 64 --batch 2 --epochs 1)
core=(adze-train "${model[@]}" --batch 2)

# number KEY FILE: the value of a JSON member.
number() { sed -n "s/.*\"$1\": \([0-9]*\).*/\1/p" "$2" | head -n1; }

# forecast RUN COMMAND...: announced, recorded and seen agree.
forecast() {
  local run=$1 seen planned peak
  shift
  rm -f peak.txt
  ADZE_CUSIM_PEAK=$work/peak.txt "$@" --out "$run" >"$run.txt" 2>&1 || complain "$*: $(cat "$run.txt")"
  grep -q 'device memory of .*: .*parameters .*activations and workspace .* are free' "$run.txt" || complain "$run: no device in the plan: $(cat "$run.txt")"
  seen=$(cat peak.txt)
  planned=$(number planned_device_memory_bytes "$run/run.json")
  peak=$(number peak_device_memory_bytes "$run/run.json")
  [ "$seen" = "$peak" ] || complain "$run: the allocator saw $seen bytes, run.json says $peak"
  awk -v p="$planned" -v s="$seen" 'BEGIN { r = s > 0 ? p / s - 1 : 1; exit !(r <= 0.05 && r >= -0.05) }' ||
    complain "$run: announced $planned bytes, seen $seen"
}
forecast rd "${rd[@]}"
forecast rd-off "${rd[@]}" --cache off
forecast core "${core[@]}"
expect 0 '*device memory of scoring*the memory bank*anomaly maps*to come*are free*' adze-eval --model core --out scores

expect 0 '*device memory of scoring*the memory bank*anomaly maps*are free*' adze-predict --model core/product_01/model.h5 --dry-run toy/product_01/test
expect 0 '*device memory of scoring*are free*path,score*' adze-predict --model core/product_01/model.h5 toy/product_01/test/good

# Too little: from the first block to the last one.
refused() { # BYTES PATTERN COMMAND...
  local bytes=$1 pattern=$2
  shift 2
  expect 4 "$pattern" env ADZE_CUSIM_MEMORY="$bytes" "$@" --out refused --force
}
refused 1000000 '*parameters: no * bytes on cusim:0, where * of 1000000 are free*--backbone*' "${rd[@]}"
wide=(adze-train --method patchcore --backbone resnet18 --weights resnet18.h5 --size 256 --batch 4 --dry-run)
rm -f peak.txt
expect 0 '*' "${wide[@]}" # times the engines, so that the next ones need no memory for it
expect 0 '*' env ADZE_CUSIM_PEAK="$work/peak.txt" "${wide[@]}"
peak=$(cat peak.txt)
names=
for share in 30 40 50 60 70 80 90 99; do
  out=$(ADZE_CUSIM_MEMORY=$((peak / 100 * share)) "${wide[@]}" 2>&1)
  [ $? = 4 ] || complain "$share % of the memory: $out"
  name=$(sed -n 's/.*: \([a-z ]*\): no [0-9]* bytes on cusim:0, where [0-9]* of [0-9]* are free; .*--[a-z].*/\1/p' <<<"$out" | head -n1)
  [ -n "$name" ] || complain "$share % of the memory: $out"
  [ "$name" != "activations and workspace" ] || [[ $out == *'operations, the largest tensor that of '*'(4,'*') with '*' bytes: '* ]] || complain "no tensor is named: $out"
  names+="$name,"
done
for name in 'weights as the kernels want them' 'activations and workspace'; do [[ $names == *"$name,"* ]] || complain "never named: $name ($names)"; done

# PatchCore: the coreset is selected, and the bank searched, when all else is there. Engines have been timed before.
forecast core2 "${core[@]}"
peak=$(number peak_device_memory_bytes core2/run.json)
refused $((peak - 1000)) '*fitting product_01* needs * more bytes of device memory*the selection of the coreset*' "${core[@]}"
rm -f peak.txt
expect 0 '*' env ADZE_CUSIM_PEAK="$work/peak.txt" adze-eval --model core --batch 7 --out scores2
peak=$(cat peak.txt)
expect 4 '*scoring product_01* needs * more bytes of device memory*' env ADZE_CUSIM_MEMORY=$((peak - 1000)) adze-eval --model core --batch 7 --out scores3
expect 0 '*' env ADZE_CUSIM_MEMORY="$peak" adze-eval --model core --batch 7 --out scores3
expect 4 '*scoring needs * more bytes of device memory*' env ADZE_CUSIM_MEMORY=$((peak - 1000)) adze-predict --model core/product_01/model.h5 --batch 7 toy/product_01/test
expect 4 '*the memory bank: no * bytes*coreset*' env ADZE_CUSIM_MEMORY=$((peak / 100 * 96)) adze-eval --model core --batch 7 --out scores4
exit $failed
