#!/bin/bash
# test_device.sh BIN MAKE_WEIGHTS - the programs with --device cusim (or $ADZE_TEST_DEVICE): each method from training to scores,
# beside the cpu. How far they may be apart is measured, not chosen: training multiplies every rounding (Adam moves a weight
# by lr whatever the size of its gradient; ReLUs and maxima fall to the other side), by how much depends on the method. So
# the cpu runs twice more, with every weight of the backbone moved by one unit in its last place and with oneDNN's sums in the
# order of another instruction set. The device may be off by four times the larger of what this did: it rounds forward, the gradients
# of the data, those of the weights and the optimiser's step in its own way, four independent times sqrt(4) = 2, and the larger of two
# random numbers may be half of what another draw gives. Eight roundings of the number itself come on top. The first loss, before any step,
# is held to what happened to the first losses; later ones and scores to the largest in any line, since how soon a rounding grows
# depends on which ReLU it turns: DeSTSeg's second losses are off by 1.3e-5 between instruction sets and by 6.2e-5 on the emulator, which sums in
# double, its third ones by 1.1e-2 and 1.7e-3.
. "$(dirname "$0")/../train/toy.sh"
device=${ADZE_TEST_DEVICE:-cusim}
unset ADZE_BACKEND_PATH # lib/ beside bin/ is found by itself
export ADZE_CUSIM_CHECKS=fast ADZE_THREADS=1

for seed in 1 2; do
  "$make_weights" resnet18 $seed >moved.safetensors &&
    adze-weights import moved.safetensors --as resnet18 -o moved-$seed.h5 >/dev/null 2>&1 || exit 1
done

# close FILE RUN: the fourth columns of RUN-cpu/FILE and RUN-$device/FILE agree. A bound above a tenth would say nothing.
close() {
  paste -d, "$2-cpu/$1" "$2-moved-1/$1" "$2-moved-2/$1" "$2-$device/$1" | awk -F, -v file="$2: $1" -v all="$([[ $1 == scores.csv ]] && echo 1)" '
    function size(x) { return x < 0 ? -x : x }
    function bound(i) { return 4 * moved[i] + 8 * 2 ^ -24 * size(want[i]) }
    NR > 1 {
      k = NF / 4; n++
      want[n] = $4; got[n] = $(3 * k + 4)
      for (i = 1; i <= 2; i++) { d = size($(i * k + 4) - $4); if (d > most) most = d }
      if (n == 1) first = most
    }
    END {
      for (i = 1; i <= n; i++) {
        moved[i] = i == 1 && !all ? first : most
        if (!(size(got[i] - want[i]) <= bound(i))) { print file ", line " i + 1 ": " want[i] " and " got[i] ", bound " bound(i); bad = 1 }
        if (!(bound(i) <= 0.1 * size(want[i]))) { print file ", line " i + 1 ": a bound of " bound(i) " for " want[i]; bad = 1 }
      }
      exit bad || n < 1
    }' || complain "$2: $1 do not agree"
}

# method NAME OPTIONS...
method() {
  local name=$1 run weights
  local train=(adze-train --method "$@" --backbone resnet18 --size 64 --batch 2 --data toy --class product_01 --log quiet)
  [ "$name" = patchcore ] || train+=(--epochs 1)
  for run in cpu moved-1 moved-2 "$device"; do
    weights=resnet18.h5
    [[ $run == moved-* ]] && weights=$run.h5
    local on=$run isa=DEFAULT
    [[ $run == "$device" ]] || on=cpu
    [ "$run" = moved-1 ] && isa=AVX2
    [ "$run" = moved-2 ] && isa=SSE41
    expect 0 '*' env ONEDNN_MAX_CPU_ISA=$isa "${train[@]}" --weights "$weights" --device "$on" --out "$name-$run"
    expect 0 '*' env ONEDNN_MAX_CPU_ISA=$isa adze-eval --model "$name-$run" --batch 4 --data toy --class product_01 --device "$on" --out "$name-scores-$run" --log quiet
  done
  [ "$name" = patchcore ] || close product_01/train.csv "$name"
  close scores.csv "$name-scores"
}
method patchcore --set coreset=0.2
method rd
method cflow --set levels=2,3 --set blocks=4 --set fiber=32
method simplenet --set target_dim=96 --set pretrain_dim=96 --set hidden=64
method destseg
core=(adze-train "${model[@]}" --batch 2 --data toy --class product_01)
expect 0 "*device: $device*" "${core[@]}" --device $device --out said

# The same command on the same device gives the same bytes; the plan says what runs where.
expect 0 '*' "${core[@]}" --device $device --out again --log quiet
same patchcore-$device/product_01/model.h5 again/product_01/model.h5

# run.json names the engine of each library call and how it was chosen: timed, or later found in the plan cache; without a place
# to keep the choice, the first.
engines() { grep -o '{"op": .*"count": [0-9]*}' "$1/run.json"; }
entry='^\{"op": "[^"]*", "backward": (true|false), "output": \[[0-9, ]*\], "part": "[^"]*", "library": "(cuDNN|cuBLASLt)", "engine": [0-9]+, "choice": [0-9]+, "workspace_bytes": [0-9]+, "chosen": "(timed|cache|only|first)"(, "ms": [0-9.]+)?, "count": [0-9]+\}$'
for run in patchcore-$device rd-$device again; do
  [ "$(engines $run | wc -l)" -gt 3 ] || complain "$run: no engines: $(cat $run/run.json)"
  ! engines $run | grep -Evq "$entry" || complain "$run: $(engines $run | grep -Ev "$entry")"
done
engines patchcore-$device | grep -q '"chosen": "timed", "ms"' || complain "nothing was timed: $(engines patchcore-$device)"
for part in forward 'data gradient' 'weights gradient'; do
  engines rd-$device | grep -q "\"part\": \"$part\", \"library\": \"cuDNN\"" || complain "no $part: $(engines rd-$device)"
done
! engines again | grep -Eq '"chosen": "(timed|first)"' || complain "timed again: $(engines again)"
engine_of() { engines "$1" | sed 's/, "chosen.*//' | sort -u; } # of each call; equal ones are timed once
[ "$(engine_of patchcore-$device)" = "$(engine_of again)" ] || complain "the second run took other engines: $(engines again)"
expect 0 '*' env XDG_CACHE_HOME=/proc/none "${core[@]}" --device $device --out nowhere --log quiet
engines nowhere | grep -q '"chosen": "first", "count"' || complain "chosen without a place to keep it: $(engines nowhere)"
[ "$(grep -c '"engines"' patchcore-cpu/run.json)" = 0 ] || complain "the cpu has engines"
expect 0 '*conv2d+bn+act*cudnn*' "${core[@]}" --device $device --out plan --print-plan
expect 0 '*' test -d no-cache/adze/plans

# Devices that are not there.
expect 2 '*device*unknown*cuda:N*' "${core[@]}" --device tpu --out no
expect 4 '*device cuda:*' "${core[@]}" --device cuda:77 --out no
exit $failed
