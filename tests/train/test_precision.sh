#!/bin/bash
# test_precision.sh BIN MAKE_WEIGHTS - --precision bf16 in all programs: the same bytes for the same command, with the cache and
# without; every file says which precision it was made with; what the cpu cannot do is refused. Skipped without AVX-512.
. "$(dirname "$0")/toy.sh"
rd=(adze-train --method rd --backbone resnet18 --weights resnet18.h5 --size 64 --data toy --class product_01 --batch 2 --epochs 2
    --threads 2 --log quiet)

expect 2 '*precision tf32: the cpu backend computes in f32 or bf16*' "${rd[@]}" --device cpu --precision tf32 --out tf32
out=$(adze-train "${model[@]}" --data toy --device cpu --precision bf16 --print-plan 2>&1)
case $out in
  *'has no AVX-512'*) echo "SKIPPED: no AVX-512, which --precision bf16 needs" >&2; exit 77 ;;
  *onednn-bf16*) ;;
  *) complain "no bfloat16 in the plan: $out" ;;
esac

export ADZE_DEVICE=cpu
expect 0 '' "${rd[@]}" --out f32
for run in bf16 again; do expect 0 '' "${rd[@]}" --precision bf16 --out $run; done
expect 0 '' "${rd[@]}" --precision bf16 --cache off --out uncached
for run in again uncached; do same bf16/product_01/model.h5 $run/product_01/model.h5; done
differ bf16/product_01/model.h5 f32/product_01/model.h5
for run in f32 bf16; do
  grep -q "\"precision\": \"$run\"" $run/run.json || complain "$run/run.json does not say its precision"
  grep -q "$run" <(strings -n 3 $run/product_01/model.h5) || complain "$run/product_01/model.h5 does not say its precision"
done
cp -r bf16 resumed
rm resumed/product_01/model.h5
expect 3 '*another configuration*precision = "bf16", now "f32"*' "${rd[@]}" --out resumed --resume

for run in result result2; do expect 0 '*' adze-eval --model bf16 --data toy --class product_01 --out $run --precision bf16 --heatmaps=no --log quiet; done
same result/scores.csv result2/scores.csv
grep -q '"precision": "bf16"' result/metrics.json || complain "metrics.json does not say its precision"
expect 0 '*' adze-eval --model bf16 --data toy --class product_01 --out exact --heatmaps=no --log quiet
differ result/scores.csv exact/scores.csv
# The scores are nearly the same: eight significant bits in, each score within 2 % of its size.
paste -d, <(cut -d, -f4 result/scores.csv) <(cut -d, -f4 exact/scores.csv) |
  awk -F, 'NR > 1 { d = $1 - $2; if (d < 0) d = -d; if (d > 0.02 * $2) bad++ } END { exit bad > 0 }' || complain "scores differ by more than 2 %"
expect 0 'path,score*' adze-predict --model bf16/product_01/model.h5 --precision bf16 toy/product_01/test --log quiet
exit $failed
