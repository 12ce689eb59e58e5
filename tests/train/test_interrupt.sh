#!/bin/bash
# test_interrupt.sh BIN MAKE_WEIGHTS - Ctrl-C while features are computed, while rows are selected, while pictures are
# scored: exit status 130 within two seconds, nothing half-written, and the next run is not hindered. A busy machine gives a
# program less than its time: two seconds of computing count then, and ten by the clock.
. "$(dirname "$0")/toy.sh"
for i in $(seq -w 100 180); do cp toy/product_01/train/good/000.png toy/product_01/train/good/$i.png; done
for i in $(seq -w 100 180); do cp toy/product_01/test/good/000.png toy/product_01/test/good/$i.png; done
train=(adze-train --method patchcore --backbone resnet18 --weights resnet18.h5 --data toy --class product_01)

ticks=$(getconf CLK_TCK)
computed_ms() { # PID
  awk -v t="$ticks" '{ print int(($14 + $15) * 1000 / t) }' "/proc/$1/stat"
}
children_ms() { # FILE: what `times` said; of the children that the shell had waited for
  awk 'NR == 2 { for (i = 1; i <= 2; i++) { split($i, t, /[ms]/); sum += t[1] * 60000 + t[2] * 1000 } print int(sum) }' "$1"
}

# interrupt SIGNAL WORD COMMAND...: the signal comes when the program's messages have WORD.
interrupt() {
  local signal=$1 word=$2 pid code begin took spent
  shift 2
  "$@" >out.txt 2>err.txt &
  pid=$!
  for _ in $(seq 600); do
    grep -q "$word" err.txt && break
    kill -0 $pid 2>/dev/null || break
    sleep 0.05
  done
  spent=$(computed_ms $pid)
  times >before.txt
  begin=$(date +%s%N)
  kill -$signal $pid 2>/dev/null || complain "$*: had ended before '$word': $(cat err.txt)"
  wait $pid
  code=$?
  took=$((($(date +%s%N) - begin) / 1000000))
  times >after.txt
  spent=$(($(children_ms after.txt) - $(children_ms before.txt) - spent))
  [ $code = 130 ] || complain "$*: exit status $code after $signal at '$word', want 130: $(cat err.txt)"
  [ $took -lt 2000 ] || { [ $spent -lt 2000 ] && [ $took -lt 10000 ]; } ||
    complain "$*: left $took ms ($spent ms of computing) after $signal at '$word', want less than 2000"
  grep -q 'interrupted' err.txt || complain "$*: says nothing of the interruption: $(cat err.txt)"
}

interrupt INT 'features product_01' "${train[@]}" --size 256 --out run
interrupt TERM 'features product_01' "${train[@]}" --size 256 --out run
interrupt INT 'select' "${train[@]}" --size 192 --set coreset=1 --set projection_dim=0 --out run
[ -e run/product_01/model.h5 ] && complain "an interrupted run left a model"
expect 0 '*' "${train[@]}" --size 64 --set coreset=0.02 --out run --log quiet
interrupt INT 'score product_01' adze-eval --model run/product_01/model.h5 --data toy --class product_01 --out result
[ -e result/metrics.json ] && complain "an interrupted evaluation left metrics"
expect 0 '*' adze-eval --model run/product_01/model.h5 --data toy --class product_01 --out result --heatmaps=no --log quiet
nothing_half .
exit $failed
