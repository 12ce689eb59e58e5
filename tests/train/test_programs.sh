#!/bin/bash
# test_programs.sh BIN MAKE_WEIGHTS - adze-train, adze-eval and adze-predict one after the other on a made-up data set: the
# files they write, the same bytes for the same command, configuration files, resuming.
. "$(dirname "$0")/toy.sh"

# One model per class, then everything that the evaluator writes.
expect 0 '*product_01: bank of *product_02: bank of *' adze-train "${model[@]}" --data toy --out run
for file in run.json product_01/model.h5 product_02/model.h5; do [ -s run/$file ] || complain "no run/$file"; done
expect 0 '*| product?_01 |*| product?_02 |*| \*\*mean\*\* |*' adze-eval --model run --data toy --out result --save-maps --log quiet
for file in metrics.json metrics.md metrics.csv metrics.tex scores.csv maps.h5 report.html heatmaps/product_01/good/000.png; do
  [ -s result/$file ] || complain "no result/$file"
done
[ "$(wc -l <result/scores.csv)" = 15 ] || complain "scores.csv has $(wc -l <result/scores.csv) lines, want 15"
[ "$(head -n 1 result/scores.csv)" = class,path,label,score ] || complain "scores.csv begins with $(head -n 1 result/scores.csv)"
expect 0 '*product_01/product_01/test/good/000.png*64,64*' bash -c "adze-weights list result/maps.h5"
grep -q 'https\?://[a-z]' <(grep -o 'src="[^"]\{0,40\}\|href="[^"]\{0,40\}' result/report.html) && complain "the report loads something"

# The same command, the same bytes; --config takes what --print-config gives.
expect 0 '*' adze-train "${model[@]}" --data toy --out again --log quiet
expect 0 '*' adze-eval --model again --data toy --out result2 --save-maps --log quiet
for class in product_01 product_02; do same run/$class/model.h5 again/$class/model.h5; done
same result/scores.csv result2/scores.csv
same result/maps.h5 result2/maps.h5
same <(grep -v '"model"' result/metrics.json) <(grep -v '"model"' result2/metrics.json)
adze-train "${model[@]}" --data toy --class product_01 --seed 7 --out config --print-config >config.yaml || complain "--print-config failed"
expect 0 '*' adze-train --config config.yaml --log quiet
expect 0 '*' adze-train "${model[@]}" --data toy --class product_01 --seed 7 --out typed --log quiet
same config/product_01/model.h5 typed/product_01/model.h5
differ config/product_01/model.h5 run/product_01/model.h5

# The picture's own scores, whoever asks.
expect 0 'path,score*' adze-predict --model run/product_01/model.h5 toy/product_01/test --log quiet
adze-predict --model run/product_01/model.h5 toy/product_01/test --out pictures --log quiet >predicted.csv || complain "adze-predict failed"
same <(sed -n 's|^product_01,\(.*\),[01],\(.*\)$|\1 \2|p' result/scores.csv | sort | awk '{printf "%s %.5g\n", $1, $2}') \
  <(sed -n 's|^toy/\(.*\),\(.*\)$|\1 \2|p' predicted.csv | sort | awk '{printf "%s %.5g\n", $1, $2}')
[ "$(find pictures -name '*.png' | wc -l)" = 7 ] || complain "adze-predict --out wrote $(find pictures -name '*.png' | wc -l) pictures, want 7"
good=toy/product_01/train/good/000.png
expect 0 '*,good' adze-predict --model run/product_01/model.h5 --threshold 1e9 --exit-verdict $good --log quiet
expect 1 '*,anomalous' adze-predict --model run/product_01/model.h5 --threshold -1 --exit-verdict $good --log quiet
expect 0 '*,anomalous' adze-predict --model run/product_01/model.h5 --threshold -1 $good --log quiet
expect 2 '*--exit-verdict needs --threshold*' adze-predict --model run/product_01/model.h5 --exit-verdict $good

# One model for all classes; it serves each of them.
expect 0 '*joint: bank of *' adze-train "${model[@]}" --data toy --joint --out joint
[ -s joint/joint/model.h5 ] || complain "no joint/joint/model.h5"
expect 0 '*| product?_01 |*| product?_02 |*' adze-eval --model joint --data toy --out joint-result --heatmaps=no --log quiet
[ -e joint-result/heatmaps ] && complain "--heatmaps=no wrote some"

# Resuming leaves what is finished and makes what is not.
before=$(stat -c %Y.%i run/product_01/model.h5)
cp run/product_02/model.h5 wanted.h5
rm run/product_02/model.h5
expect 0 '*product_01: *exists, left as it is*product_02: bank of *' adze-train "${model[@]}" --data toy --out run --resume
[ "$before" = "$(stat -c %Y.%i run/product_01/model.h5)" ] || complain "--resume wrote a finished class again"
same run/product_02/model.h5 wanted.h5
# What it would make otherwise is refused by name.
expect 3 '*run/product_01/model.h5: made with another configuration: coreset = 0.2, now 0.3 (--force*' \
  adze-train "${model[@]/%=0.2/=0.3}" --data toy --out run --resume
expect 3 '*another configuration: seed = 42, now 43 (*' adze-train "${model[@]}" --data toy --out run --resume --seed 43
expect 2 '*--class: product_01 twice*' adze-train "${model[@]}" --data toy --class product_01,product_02,product_01 --out twice
expect 2 '*--class: product_01 twice*' adze-eval --model run --data toy --class product_01 --class product_01 --out twice

# The record keeps the classes that other commands made, each with its command, as long as their models are there.
recorded() { # RUN CLASS...: the classes of run.json, in this order
  local run=$1
  shift
  [ "$(sed -n 's/^    "\([a-z0-9_]*\)": {"images".*/\1/p' $run/run.json | xargs)" = "$*" ] || complain "$run/run.json: want the classes $*: $(cat $run/run.json)"
}
recorded run product_01 product_02
grep -q '"product_01": .*"command": "adze-train .* --out run", "finished": "20' run/run.json || complain "run.json does not say what made product_01"
expect 0 '*' adze-train "${model[@]}" --data toy --class product_02 --out parts --log quiet
expect 0 '*' adze-train "${model[@]}" --data toy --class product_01 --out parts --log quiet
recorded parts product_02 product_01
cp parts/run.json before.json
expect 0 '*left as it is*' adze-train "${model[@]}" --data toy --class product_01 --out parts --resume
same before.json parts/run.json
rm parts/product_02/model.h5
expect 0 '*' adze-train "${model[@]}" --data toy --class product_01 --out parts --force --log quiet
recorded parts product_01
# A class that fails takes neither the record nor the models of those before it along; a picture that nobody asked for does not, either.
cp -r toy spoilt && printf 'no picture' >spoilt/product_02/train/good/000.png
expect 3 '*product_02/train/good/000.png*' adze-train "${model[@]}" --data spoilt --out spoilt-run
recorded spoilt-run product_01
mkdir -p visa/split_csv && cp -r toy/product_01 toy/product_02 visa/
{
  echo object,split,label,image,mask
  for i in 0 1 2 3; do echo "product_01,train,normal,product_01/train/good/00$i.png,"; done
  echo product_02,train,normal,product_02/missing.png,
} >visa/split_csv/1cls.csv
expect 0 '*run.json has no manifest*product_02/missing.png*' adze-train "${model[@]}" --data visa --class product_01 --out visa-run
grep -q '"manifest_sha256": null' visa-run/run.json || complain "visa-run/run.json: $(cat visa-run/run.json)"

# One checkpoint and a whole data set: the classes that it was made for; others when they are asked for, with a note.
expect 0 '*| product?_01 |*' adze-eval --model run/product_01/model.h5 --data toy --out single --heatmaps=no --log quiet
grep -q product_02 single/metrics.csv && complain "a checkpoint of product_01 was evaluated on product_02"
expect 0 "*The model was fitted to pictures of 'product_01'*" adze-eval --model run/product_01/model.h5 --data toy --class product_02 --out other --heatmaps=no

# Two pictures that differ in nothing but their ending have two heat-maps.
mkdir -p twin && cp -r toy/product_01 twin/ && cp twin/product_01/test/good/000.png twin/product_01/test/good/000.PNG
expect 0 '*' adze-eval --model run/product_01/model.h5 --data twin --out twin-result --log quiet
for file in 000.png.png 000.PNG.png 001.png; do [ -s twin-result/heatmaps/product_01/good/$file ] || complain "no heat-map $file: $(ls twin-result/heatmaps/product_01/good)"; done

# Results are kept unless --force.
expect 2 '*run/product_01/model.h5 exists*--force*' adze-train "${model[@]}" --data toy --out run
expect 2 '*result/metrics.json exists*--force*' adze-eval --model run --data toy --out result
expect 2 '*pictures/00000?*.png exists*--force*' adze-predict --model run/product_01/model.h5 toy/product_01/test --out pictures
expect 0 '*' adze-predict --model run/product_01/model.h5 toy/product_01/test --out pictures --force --log quiet
expect 0 '*' adze-train "${model[@]}" --data toy --out run --force --log quiet
expect 0 '*' adze-eval --model run --data toy --out result --force --log quiet

# Looking without doing.
expect 0 '*conv2d*' adze-train "${model[@]}" --data toy --print-plan
expect 0 '*peak memory of fitting*' adze-train "${model[@]}" --data toy --dry-run --out dry
expect 0 '*peak memory of scoring*' adze-eval --model run --data toy --dry-run
expect 0 '*peak memory of scoring*' adze-predict --model run/product_01/model.h5 $good --dry-run --out dry
expect 0 '*conv2d*' adze-predict --model run/product_01/model.h5 --print-plan
expect 0 '*threshold: 3 *' adze-predict --threshold 3 --print-config
[[ $(adze-predict --model run/product_01/model.h5 $good --dry-run 2>/dev/null) = '' ]] || complain "--dry-run scored a picture"
[ -e dry ] && complain "--dry-run wrote something"
# Errors, too, come as --log says.
expect 2 '{"time":"*","level":"error","message":"unknown option*}' adze-train --log json --sead 4
for program in adze-eval adze-predict; do [[ $($program --help) == *'with --method'* ]] && complain "$program has no --method"; done
nothing_half .
exit $failed
