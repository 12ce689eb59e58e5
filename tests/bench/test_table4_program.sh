#!/bin/bash
# test_table4_program.sh BIN MAKE_WEIGHTS - adze bench table4 with two methods on two small classes: the table, kept cells,
# interruption, failures of single cells, bad input.
. "$(dirname "$0")/../train/toy.sh"
mv toy/product_02 toy/rabbit_pendant # one of the paper's
base=(adze bench table4 --backbone resnet18 --weights resnet18.h5 --size 64 --threads 1
  --set simplenet.hidden=64,simplenet.target_dim=96,simplenet.pretrain_dim=96,patchcore.coreset=0.2)
one=("${base[@]}" --data toy --batch 2)
table=("${one[@]}" --methods patchcore,simplenet)

# All cells, one line each; the table in three forms; the paper beside what it has.
expect 0 '*patchcore *product_01 *trained in*simplenet *rabbit_pendant *evaluated in*| class | patchcore | simplenet | mean ± std |*The paper*54.9 / 70.1 | 62.1 / 57.4 |*Difference*' \
  "${table[@]}" --epochs 2 --out whole
[ "$("${table[@]}" --epochs 2 --out whole 2>&1 >/dev/null | grep -c '(kept)')" = 4 ] || complain "finished cells were not kept"
[ "$(wc -l <whole/table4.csv)" = 5 ] || complain "table4.csv has $(wc -l <whole/table4.csv) lines, want 5"
grep -q '"method": "simplenet", "image_auroc": [01]' whole/table4.json || complain "table4.json: $(cat whole/table4.json)"
same whole/table4.md <("${table[@]}" --epochs 2 --out whole --log quiet)
[ -e whole/patchcore/product_01/result/heatmaps ] && complain "heat-maps were written"

# A part of it, from the same cells; a cell that lost its record is evaluated again, not trained.
expect 0 '*| class | simplenet |*rabbit?_pendant*' "${one[@]}" --epochs 2 --out whole --methods simplenet --classes rabbit_pendant
before=$(stat -c %Y.%i whole/simplenet/product_01/run/product_01/model.h5)
rm whole/simplenet/product_01/cell.json
expect 0 '*' "${table[@]}" --epochs 2 --out whole --log quiet
[ "$before" = "$(stat -c %Y.%i whole/simplenet/product_01/run/product_01/model.h5)" ] || complain "a finished model was trained again"
expect 0 'whole/patchcore/product_01*whole/simplenet/rabbit_pendant' "${table[@]}" --out whole --dry-run

# A value with a comma goes to its method as it is.
expect 0 '*' "${one[@]}" --epochs 1 --out comma --methods patchcore --classes product_01 --set patchcore.layers=layer2,layer3 --log quiet
grep -q -- '--set=layers=layer2,layer3"' comma/patchcore/product_01/cell.json || complain "a comma: $(cat comma/patchcore/product_01/cell.json)"

# Interrupted while a cell is trained: 130, nothing left running, and the same command ends with the same model.
long=("${one[@]}" --epochs 60 --methods simplenet --classes product_01)
expect 0 '*' "${long[@]}" --out uninterrupted --log quiet
"${long[@]}" --out stopped 2>err.txt >/dev/null &
pid=$!
csv=stopped/simplenet/product_01/run/product_01/train.csv
while kill -0 $pid 2>/dev/null && [ "$(wc -l 2>/dev/null <$csv || echo 0)" -le 30 ]; do sleep 0.01; done
kill -INT $pid 2>/dev/null
wait $pid
code=$?
if [ $code != 0 ]; then # else it was faster than we
  [ $code = 130 ] || complain "interrupted: exit status $code, want 130: $(cat err.txt)"
  grep -q 'interrupted in simplenet on product_01; the same command goes on' err.txt || complain "interrupted: $(cat err.txt)"
  [ -e stopped/simplenet/product_01/run/product_01/model.h5 ] && complain "interrupted: there is a model"
fi
expect 0 '*' "${long[@]}" --out stopped --log quiet
same uninterrupted/simplenet/product_01/run/product_01/model.h5 stopped/simplenet/product_01/run/product_01/model.h5

# A cell that cannot be made does not stop the others, and is tried again.
expect 3 '*simplenet product_01: training: *fewer than a batch of 7*| product?_01 | * | - / - |*not all cells are finished*' \
  "${base[@]}" --data toy --batch 7 --epochs 1 --out broken --methods patchcore,simplenet --classes product_01
[ -s broken/table4.md ] || complain "no table of the finished cells"

# What does not fit is said before anything is done.
expect 2 '*made with other options*--force*' "${one[@]}" --epochs 3 --out whole --methods simplenet --classes product_01
expect 0 '*' "${one[@]}" --epochs 3 --out whole --methods simplenet --classes product_01 --force --log quiet
expect 2 "*'patchcor' is unknown*'patchcore'*" "${one[@]}" --out x --methods patchcor
expect 2 '*patchcore twice*' "${one[@]}" --out x --methods patchcore,patchcore
expect 2 '*--set sigma=2: want METHOD.KEY=VALUE*' "${table[@]}" --out x --set sigma=2
expect 2 '*--out is missing*' "${table[@]}"
expect 2 "*unknown option '--epoch', did you mean '--epochs'*" "${table[@]}" --out x --epoch 1
expect 3 '*no class*product_03*' "${table[@]}" --out x --classes product_03
expect 3 '*nowhere*' "${base[@]}" --out x --data nowhere
expect 2 '*--data is missing*' adze bench table4 --out x
expect 2 "*unknown verb 'table'*'table4'*" adze bench table
expect 0 '*usage: adze-bench table4*--methods*' adze bench table4 --help
expect 2 '*predict: only kernels has a static part*' adze bench predict --static
expect 0 '*bench-kernels --static*RTX 4090*knn*sgd with momentum*sm_90*' adze bench kernels --static
[ -e x ] && complain "a refused command made a folder"
exit $failed
