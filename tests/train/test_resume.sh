#!/bin/bash
# test_resume.sh BIN MAKE_WEIGHTS TINY_TRAIN - a training ends with the same bytes however often it was stopped and resumed,
# with and without the cache of frozen features. TINY_TRAIN is adze-train with a method of a few hundred parameters; a run of
# the real one closes the test. ADZE_TEST_KILLS: how many SIGKILLs (50; nightly 1000); ADZE_TEST_SEED: of their moments.
. "$(dirname "$0")/toy.sh"
tiny_train=$3
tiny=("$tiny_train" --method tiny --weights resnet18.h5 --data toy --class product_01 --threads 1)
export ADZE_SIZE=32 ADZE_LOG=quiet # so that the command line can still say otherwise
n_rows=120 # 40 epochs of three steps

until_rows() { # FILE N: waits for N rows below the heading, or for the end of $pid
  while kill -0 $pid 2>/dev/null && [ "$(wc -l 2>/dev/null <"$1" || echo 0)" -le "$2" ]; do sleep 0.01; done
}
# All columns but the two that tell the time.
rows() { sed 's/,[^,]*,[^,]*$//' "$1/product_01/train.csv"; }
opens() { adze-weights list "$1" >/dev/null 2>&1; }
state_opens() { opens "$1/product_01/train.h5" || opens "$1/product_01/train.prev.h5"; }
same_as_whole() { # RUN
  same whole/product_01/model.h5 "$1/product_01/model.h5"
  same <(rows whole) <(rows "$1")
}

# The same command, with the cache and without.
begin=$(date +%s%N)
expect 0 '' "${tiny[@]}" --out whole
whole_ms=$((($(date +%s%N) - begin) / 1000000))
[ "$(wc -l <whole/product_01/train.csv)" = $((n_rows + 1)) ] || complain "train.csv has $(wc -l <whole/product_01/train.csv) lines"
for cache in memory off; do
  expect 0 '' "${tiny[@]}" --cache $cache --out $cache
  same_as_whole $cache
done
expect 0 '' "${tiny[@]}" --seed 7 --out other
differ whole/product_01/model.h5 other/product_01/model.h5

# Asked to stop behind some step: 130, a state that opens, and the same end.
n=0
for signal in INT TERM; do
  for row in 1 3 31 70; do
    run=stop$((n++))
    for _ in 1 2 3 4 5; do # on a busy machine the run may have ended before anyone looks
      rm -rf $run
      "${tiny[@]}" --out $run 2>err.txt &
      pid=$!
      until_rows $run/product_01/train.csv $row
      kill -$signal $pid 2>/dev/null
      wait $pid
      code=$?
      [ $code = 0 ] || break
    done
    [ $code = 130 ] || complain "SIG$signal at row $row: exit status $code, want 130: $(cat err.txt)"
    grep -q 'interrupted behind step .* --resume' err.txt || complain "SIG$signal at row $row: $(cat err.txt)"
    opens $run/product_01/train.h5 || complain "SIG$signal at row $row: train.h5 does not open"
    [ -e $run/product_01/model.h5 ] && complain "SIG$signal at row $row: there is a model"
    [ $row = 31 ] && cp -r $run stopped
    expect 0 '' "${tiny[@]}" --out $run --resume
    same_as_whole $run
  done
done

# Parts by epochs, each with its optimiser and inputs: stopped in both and at the seam; with pictures that turn, too.
for turn in 0 5; do
  parts=("${tiny[@]}" --set parts=yes --set rotate=$turn)
  expect 0 '' "${parts[@]}" --out parts$turn
  [ "$(head -n 1 parts$turn/product_01/train.csv)" = epoch,step,lr,loss,flat,map,head,images_per_s,elapsed_s ] || complain "parts: columns"
  [ "$(sed 1d parts$turn/product_01/train.csv | awk -F, '($5 == "nan") == ($7 != "nan") && ($5 == "nan") == ($1 > 20)' | wc -l)" = $n_rows ] ||
    complain "parts: terms of a part that rests"
  expect 0 '' "${parts[@]}" --cache off --out parts$turn-off
  same parts$turn/product_01/model.h5 parts$turn-off/product_01/model.h5
  for row in 10 60 90; do
    rm -rf stop
    "${parts[@]}" --out stop 2>err.txt &
    pid=$!
    until_rows stop/product_01/train.csv $row
    kill -INT $pid 2>/dev/null
    wait $pid
    expect 0 '' "${parts[@]}" --out stop --resume
    same parts$turn/product_01/model.h5 stop/product_01/model.h5
    same <(rows parts$turn) <(rows stop)
  done
done
differ parts0/product_01/model.h5 parts5/product_01/model.h5

# A loss that is no number: the state before that step is kept, the same to the byte as that of a run which was stopped there.
for step in 0 1 2 3 50; do
  rm -rf nan before
  expect 5 "*step $step: the loss is *nan*first in*" env ADZE_TINY_NAN=$step "${tiny[@]}" --out nan
  [ $step = 0 ] && continue # nothing has been done yet
  expect 130 "*interrupted behind step $step of*" env ADZE_TINY_STOP=$((step - 1)) "${tiny[@]}" --out before
  same before/product_01/train.h5 nan/product_01/train.h5
done
expect 0 '' env ADZE_TINY_NAN=1000 "${tiny[@]}" --out nan --resume
same_as_whole nan

# What does not fit is refused by name, and nothing changes; a damaged state gives way to the one before.
for change in 'lr 0.1' 'epochs 41' 'batch 3' 'size 64' 'seed 7'; do
  set -- $change
  expect 3 "*another configuration*$1 = *, now $2*" "${tiny[@]}" --out stopped --resume "--$1" "$2"
done
cp -r toy other-toy
cp toy/product_01/test/good/000.png other-toy/product_01/train/good/004.png
expect 3 '*another configuration: pictures_sha256 = *' "${tiny[@]/#toy/other-toy}" --out stopped --resume
expect 2 '*train.h5 exists*--resume*--force*' "${tiny[@]}" --out stopped
# One model over several classes goes on with these classes only.
all=("${tiny[@]/#product_01/product_01,product_02}" --joint --epochs 2)
expect 0 '' "${all[@]}" --out joint-whole
expect 130 '*interrupted behind step 5 of*' env ADZE_TINY_STOP=4 "${all[@]}" --out joint
cp joint/joint/train.h5 joint.h5
expect 3 '*joint/joint/train.h5: made with another configuration: *classes = "product?01,product?02", now "product?01"*' \
  "${tiny[@]}" --joint --epochs 2 --out joint --resume
same joint.h5 joint/joint/train.h5
expect 0 '' "${all[@]}" --out joint --resume
same joint-whole/joint/model.h5 joint/joint/model.h5
cp -r stopped damaged
size=$(stat -c %s damaged/product_01/train.h5)
printf 'damage' | dd of=damaged/product_01/train.h5 bs=1 seek=$((size / 2)) conv=notrunc status=none
expect 0 '*train.prev.h5*' "${tiny[@]}" --out damaged --resume --log text
same_as_whole damaged
expect 0 '' "${tiny[@]}" --out stopped --resume
same_as_whole stopped

# An old model does not pass for what a run with --force was about to make; nor does a shorter training for a longer one.
cp -r whole anew
expect 130 '*' env ADZE_TINY_STOP=4 "${tiny[@]}" --seed 7 --out anew --force
same whole/product_01/model.h5 anew/product_01/model.h5
expect 0 '' "${tiny[@]}" --seed 7 --out anew --resume
same other/product_01/model.h5 anew/product_01/model.h5
expect 0 '*left as it is*' "${tiny[@]}" --seed 7 --out anew --resume --log text
expect 3 '*train.h5: made with another configuration: epochs = 40, now 50 (*' "${tiny[@]}" --seed 7 --out anew --resume --epochs 50
expect 3 '*train.h5: made with another configuration: *seed = 7, now 42*' "${tiny[@]}" --out anew --resume

# Two at once in one folder: the first one has it.
"${tiny[@]}" --out shared --epochs 4000 2>err.txt &
pid=$!
until_rows shared/product_01/train.csv 1
for how in --resume --force ''; do expect 4 '*shared/product_01: another process is writing there*' "${tiny[@]}" --out shared --epochs 4000 $how; done
kill -INT $pid
wait $pid
code=$?
[ $code = 130 ] || complain "two at once: the first one ended with $code: $(cat err.txt)"
opens shared/product_01/train.h5 || complain "two at once: train.h5 does not open"

# Killed at random moments, which spread over runs of several resumptions each.
RANDOM=${ADZE_TEST_SEED:-42}
kills=0 ends=0 had_state=0
while [ $kills -lt "${ADZE_TEST_KILLS:-50}" ]; do
  "${tiny[@]}" --out killed --resume 2>err.txt &
  pid=$!
  sleep "$(awk -v ms=$((whole_ms * RANDOM / 32768 / 2)) 'BEGIN { print ms / 1000 }')"
  if kill -KILL $pid 2>/dev/null; then kills=$((kills + 1)); fi
  wait $pid 2>/dev/null
  code=$?
  [ $code = 137 ] || [ $code = 0 ] || complain "kill $kills: exit status $code: $(cat err.txt)"
  if state_opens killed; then had_state=1
  elif [ $had_state = 1 ]; then complain "kill $kills: neither train.h5 nor train.prev.h5 opens"; fi
  if [ $code = 0 ]; then
    same_as_whole killed
    ends=$((ends + 1)) had_state=0
    rm -r killed
  fi
  [ $failed = 0 ] || break
done 2>/dev/null
mkdir -p killed/product_01 && touch killed/product_01/train.h5.tmp
expect 0 '' "${tiny[@]}" --out killed --resume
same_as_whole killed
[ ! -e killed/product_01/train.h5.tmp ] || complain "what a killed run left is still there"
printf '%d kills, %d runs to the end, an uninterrupted run takes %d ms\n' $kills $((ends + 1)) $whole_ms

# Reverse distillation: with the cache at one go, and without it in two.
rd=(adze-train --method rd --backbone resnet18 --weights resnet18.h5 --data toy --class product_01 --batch 2 --epochs 2 --threads 1)
expect 0 '' "${rd[@]}" --cache memory --out rd
"${rd[@]}" --cache off --out rd-stopped 2>err.txt &
pid=$!
until_rows rd-stopped/product_01/train.csv 2
kill -INT $pid 2>/dev/null
wait $pid
code=$?
[ $code = 130 ] || complain "rd: exit status $code, want 130: $(cat err.txt)"
expect 0 '' "${rd[@]}" --cache off --out rd-stopped --resume
same rd/product_01/model.h5 rd-stopped/product_01/model.h5
same <(rows rd) <(rows rd-stopped)

# CFlow: flows of two levels, pictures that turn; at one go, and in two. Scores do not depend on the batches of scoring, but for
# the order of sums inside products: float32 has seven digits, and log-likelihoods per dimension are near 1.
near() { paste -d, "$1" "$2" | awk -F, -v c="$3" 'NR > 1 { d = $c - $(c + NF / 2); if (d < -2e-5 || d > 2e-5) bad = 1 } END { exit bad }' || complain "$1 and $2 are not near"; }
cflow=(adze-train --method cflow --backbone resnet18 --weights resnet18.h5 --data toy --class product_01 --batch 2 --epochs 3 --threads 1
       --set blocks=2 --set condition=16)
small=(--set levels=2,3 --set fiber=10)
expect 0 '' "${cflow[@]}" "${small[@]}" --out cflow
"${cflow[@]}" "${small[@]}" --out cflow-stopped 2>err.txt &
pid=$!
until_rows cflow-stopped/product_01/train.csv 4
kill -INT $pid 2>/dev/null
wait $pid
expect 0 '' "${cflow[@]}" "${small[@]}" --out cflow-stopped --resume
same cflow/product_01/model.h5 cflow-stopped/product_01/model.h5
same <(rows cflow) <(rows cflow-stopped)
expect 0 '' "${cflow[@]}" "${small[@]}" --set rotate=0 --cache memory --out cflow-still
expect 0 '' "${cflow[@]}" "${small[@]}" --set rotate=0 --cache off --out cflow-anew
same cflow-still/product_01/model.h5 cflow-anew/product_01/model.h5
differ cflow/product_01/model.h5 cflow-still/product_01/model.h5
expect 2 "*levels '3,2'*" "${cflow[@]}" --set levels=3,2 --out none
expect 2 '*would train nothing*' "${cflow[@]}" --set levels=2 --set fiber=100000 --out none
for batch in 3 7; do expect 0 '*' adze-eval --model cflow --data toy --batch $batch --out cflow-$batch; done
near cflow-3/scores.csv cflow-7/scores.csv 4
for batch in 3 7; do adze-predict --model cflow/product_01/model.h5 --batch $batch toy/product_01/test >cflow-$batch.csv || complain "predict failed"; done
near cflow-3.csv cflow-7.csv 2
[ -z "$(find . -name '*.tmp*')" ] || complain "half-written files are left: $(find . -name '*.tmp*')"
exit $failed
