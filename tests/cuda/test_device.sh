#!/bin/bash
# test_device.sh BIN MAKE_WEIGHTS - the programs with --device cusim (or $ADZE_TEST_DEVICE): PatchCore and RD from training to scores, beside the cpu.
# PatchCore's scores agree within 2e-4 of their size: float32 sums of other orders through 18 layers, squared. RD's first loss within
# 1e-5. Adam then moves every weight by lr = 5e-3 whatever the size of its gradient, and where that is rounding, so is the
# direction: a tenth of each step is allowed for, 5e-4 per step done.
. "$(dirname "$0")/../train/toy.sh"
device=${ADZE_TEST_DEVICE:-cusim}
unset ADZE_BACKEND_PATH # lib/ beside bin/ is found by itself
export ADZE_CUSIM_CHECKS=fast ADZE_THREADS=1

# close BOUND PER_LINE FILE FILE: the numbers of the fourth column agree within BOUND + PER_LINE * lines before.
close() {
  paste -d, <(cut -d, -f4 "$3") <(cut -d, -f4 "$4") |
    awk -F, -v files="$3 $4" -v bound="$1" -v per_line="$2" 'NR > 1 { d = $1 - $2; if (d < 0) d = -d; s = $1 < 0 ? -$1 : $1; n++
      if (!(d <= (bound + per_line * (NR - 2)) * s)) { print files ", line " NR ": " $1 " and " $2; bad = 1 } } END { exit bad || n < 1 }' ||
    complain "$3 and $4 do not agree"
}

for d in cpu $device; do
  core=(adze-train "${model[@]}" --batch 2 --data toy --class product_01)
  expect 0 "*device: $d*" "${core[@]}" --device $d --out core-$d
  expect 0 '*' adze-eval --model core-$d --data toy --class product_01 --device $d --out core-scores-$d --log quiet
  expect 0 '*' adze-train --method rd --backbone resnet18 --weights resnet18.h5 --size 64 --batch 2 --epochs 1 --data toy --class product_01 \
    --device $d --out rd-$d --log quiet
  expect 0 '*' adze-eval --model rd-$d --data toy --class product_01 --device $d --out rd-scores-$d --log quiet
done
close 2e-4 0 core-scores-cpu/scores.csv core-scores-$device/scores.csv
close 1e-5 5e-4 rd-cpu/product_01/train.csv rd-$device/product_01/train.csv
close 1.5e-3 0 rd-scores-cpu/scores.csv rd-scores-$device/scores.csv

# The same command on the same device gives the same bytes; the plan says what runs where.
expect 0 '*' "${core[@]}" --device $device --out again --log quiet
same core-$device/product_01/model.h5 again/product_01/model.h5

# run.json names the engine of each library call and how it was chosen: timed, or later found in the plan cache; without a place
# to keep the choice, the first.
engines() { grep -o '{"op": .*"count": [0-9]*}' "$1/run.json"; }
entry='^\{"op": "[^"]*", "backward": (true|false), "output": \[[0-9, ]*\], "part": "[^"]*", "library": "(cuDNN|cuBLASLt)", "engine": [0-9]+, "choice": [0-9]+, "workspace_bytes": [0-9]+, "chosen": "(timed|cache|only|first)"(, "ms": [0-9.]+)?, "count": [0-9]+\}$'
for run in core-$device rd-$device again; do
  [ "$(engines $run | wc -l)" -gt 3 ] || complain "$run: no engines: $(cat $run/run.json)"
  ! engines $run | grep -Evq "$entry" || complain "$run: $(engines $run | grep -Ev "$entry")"
done
engines core-$device | grep -q '"chosen": "timed", "ms"' || complain "nothing was timed: $(engines core-$device)"
for part in forward 'data gradient' 'weights gradient'; do
  engines rd-$device | grep -q "\"part\": \"$part\", \"library\": \"cuDNN\"" || complain "no $part: $(engines rd-$device)"
done
! engines again | grep -Eq '"chosen": "(timed|first)"' || complain "timed again: $(engines again)"
engine_of() { engines "$1" | sed 's/, "chosen.*//' | sort -u; } # of each call; equal ones are timed once
[ "$(engine_of core-$device)" = "$(engine_of again)" ] || complain "the second run took other engines: $(engines again)"
expect 0 '*' env XDG_CACHE_HOME=/proc/none "${core[@]}" --device $device --out nowhere --log quiet
engines nowhere | grep -q '"chosen": "first", "count"' || complain "chosen without a place to keep it: $(engines nowhere)"
[ "$(grep -c '"engines"' core-cpu/run.json)" = 0 ] || complain "the cpu has engines"
expect 0 '*conv2d+bn+act*cudnn*' "${core[@]}" --device $device --out plan --print-plan
expect 0 '*' test -d no-cache/adze/plans

# Devices that are not there.
expect 2 '*device*unknown*cuda:N*' "${core[@]}" --device tpu --out no
expect 4 '*device cuda:*' "${core[@]}" --device cuda:77 --out no
exit $failed
