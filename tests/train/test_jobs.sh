#!/bin/bash
# test_jobs.sh BIN MAKE_WEIGHTS TINY_TRAIN - classes side by side: the same models as one after the other, one record, one
# failing class among others, Ctrl-C. And one model for two classes, scored on each.
. "$(dirname "$0")/toy.sh"
tiny=("$3" --method tiny --weights resnet18.h5 --size 32 --threads 1)
facts() { sed -n '/"classes": {/,$p' "$1/run.json" | sed -E 's/"(seconds|[a-z]*_memory_bytes)": [0-9.]*/"\1": 0/g'; }

for name in patchcore tiny; do
  case $name in
    patchcore) train=(adze-train "${model[@]}" --threads 1 --data toy) ;;
    tiny) train=("${tiny[@]}" --data toy) ;;
  esac
  expect 0 '' "${train[@]}" --out $name-1 --log quiet
  expect 0 '*product_01 *finished * s*product_02 *finished * s*' "${train[@]}" --out $name-2 --jobs 2
  for class in product_01 product_02; do same $name-1/$class/model.h5 $name-2/$class/model.h5; done
  same <(facts $name-1) <(facts $name-2)
  expect 0 '*product_01: *exists, left as it is*' "${train[@]}" --out $name-2 --jobs 5 --resume
done

# Six classes, of which one has a broken picture and one too few of them.
mkdir -p many
for i in 1 2 3 4 5 6; do cp -r toy/product_01 many/c$i; done
printf 'no picture' >many/c2/train/good/000.png
rm many/c5/train/good/00[1-5].png
expect 3 '*error: class c2: *000.png*c1 *finished*c2 *failed*c3 *finished*c4 *finished*c5 *failed*c6 *finished*failed: c2, c5' \
  "${tiny[@]}" --data many --out many-run --jobs 3
expect 0 '' "${tiny[@]}" --data many --out many-1 --class c1,c3,c4,c6 --log quiet
for class in c1 c3 c4 c6; do same many-1/$class/model.h5 many-run/$class/model.h5; done
same <(facts many-1) <(facts many-run)
for class in c2 c5; do [ -e many-run/$class/model.h5 ] && complain "$class has a model"; done
grep -q '"failed": "c2, c5"' many-run/run.json || complain "run.json does not name the classes that failed"

# Ctrl-C reaches those at work, no other begins, and --resume ends with the same models.
for signal in INT TERM; do
  rm -rf stop
  cp toy/product_01/train/good/000.png many/c2/train/good/000.png
  cp toy/product_01/train/good/*.png many/c5/train/good/
  "${tiny[@]}" --data many --out stop --epochs 2000 --jobs 2 --log quiet 2>err.txt &
  pid=$!
  for _ in $(seq 3000); do
    [ "$(cat stop/c[12]/train.csv 2>/dev/null | grep -c '^2,4,')" = 2 ] && break # each is in its second epoch
    kill -0 $pid 2>/dev/null || break
    sleep 0.01
  done
  kill -$signal $pid 2>/dev/null || complain "SIG$signal: the run had ended: $(cat err.txt)"
  wait $pid
  code=$?
  [ $code = 130 ] || complain "SIG$signal: exit status $code, want 130: $(cat err.txt)"
  [ "$(grep -c 'interrupted behind step' err.txt)" = 2 ] || complain "SIG$signal: not two interrupted classes: $(cat err.txt)"
  grep -qi 'sanitizer' err.txt && complain "$(cat err.txt)"
  for class in c1 c2; do adze-weights list stop/$class/train.h5 >/dev/null 2>&1 || complain "SIG$signal: $class has no train.h5"; done
  [ -e stop/c3 ] && complain "SIG$signal: another class began"
  [ -e stop/run.json ] && complain "SIG$signal: an interrupted run has a record"
done

# A process that is killed counts as a failed class; the others end.
"${tiny[@]}" --data toy --out crash --epochs 100 --jobs 2 2>err.txt &
pid=$!
for _ in $(seq 3000); do
  worker=$(cut -d" " -f1 /proc/$pid/task/$pid/children 2>/dev/null)
  [ -n "$worker" ] && [ -s crash/product_01/train.csv ] && break
  sleep 0.01
done
kill -KILL "$worker"
wait $pid
code=$?
[ $code = 5 ] || complain "a killed class: exit status $code, want 5: $(cat err.txt)"
grep -q 'class product_01: its process was ended by signal 9' err.txt || complain "a killed class: $(cat err.txt)"
[ -e crash/product_02/model.h5 ] || complain "a killed class took another with it: $(cat err.txt)"
expect 0 '' "${tiny[@]}" --data toy --out crash --epochs 100 --jobs 2 --resume --log quiet
expect 0 '' "${tiny[@]}" --data toy --out calm --epochs 100 --log quiet
same crash/product_01/model.h5 calm/product_01/model.h5
rm -rf crash/product_01/*.tmp* # what the killed process was writing
nothing_half .

# One model for both classes, each evaluated with it.
rd=(adze-train --method rd --backbone resnet18 --weights resnet18.h5 --data toy --size 32 --batch 4 --epochs 1 --threads 1 --log quiet)
expect 0 '' "${rd[@]}" --joint --out joint
[ "$(tail -n 1 joint/joint/train.csv | cut -d, -f2)" = 3 ] || complain "12 pictures in batches of 4 are not 3 steps: $(cat joint/joint/train.csv)"
expect 0 '*| product?_01 |*| product?_02 |*| \*\*mean\*\* |*' adze-eval --model joint --data toy --out result --heatmaps=no --log quiet
for class in product_01 product_02; do
  grep -q "\"$class\"" result/metrics.json || complain "metrics.json has no $class"
  [ "$(grep -c "^$class," result/scores.csv)" = 7 ] || complain "scores.csv has not 7 rows of $class"
done
exit $failed
