#!/bin/bash
# test_methods.sh BIN MAKE_WEIGHTS - each method that is trained by gradients, small, on a made-up data set: with the cache of
# frozen features at one go, and without it stopped and resumed, the same bytes; one model over all classes; scores and maps.
. "$(dirname "$0")/toy.sh"
export ADZE_LOG=quiet

until_rows() { # FILE N: waits for N rows below the heading, or for the end of $pid
  while kill -0 $pid 2>/dev/null && [ "$(wc -l 2>/dev/null <"$1" || echo 0)" -le "$2" ]; do sleep 0.01; done
}
# All columns but the two that tell the time.
rows() { sed 's/,[^,]*,[^,]*$//' "$1/product_01/train.csv"; }

# method NAME TERMS OPTIONS... - TERMS: the columns of train.csv behind the loss, each with a comma.
method() {
  local name=$1 terms=$2 code
  shift 2
  local train=(adze-train --method "$name" --weights resnet18.h5 --backbone resnet18 --size 64 --batch 2 --epochs 2 --data toy "$@")
  expect 0 '' "${train[@]}" --class product_01 --cache memory --out "$name"
  [ "$(head -n 1 "$name/product_01/train.csv")" = "epoch,step,lr,loss${terms},images_per_s,elapsed_s" ] ||
    complain "$name: $(head -n 1 "$name/product_01/train.csv")"
  "${train[@]}" --class product_01 --cache off --out "$name-stopped" 2>err.txt &
  pid=$!
  until_rows "$name-stopped/product_01/train.csv" 2
  kill -INT $pid 2>/dev/null
  wait $pid
  code=$?
  [ $code = 130 ] || [ $code = 0 ] || complain "$name: exit status $code, want 130: $(cat err.txt)"
  expect 0 '' "${train[@]}" --class product_01 --cache off --out "$name-stopped" --resume
  same "$name/product_01/model.h5" "$name-stopped/product_01/model.h5"
  same <(rows "$name") <(rows "$name-stopped")
  expect 0 '' "${train[@]}" --class product_01 --seed 7 --out "$name-other"
  differ "$name/product_01/model.h5" "$name-other/product_01/model.h5"
  expect 0 '' "${train[@]}" --joint --out "$name-joint"
  expect 0 '*| product?_01 |*| product?_02 |*' adze-eval --model "$name-joint" --data toy --out "$name-result" --save-maps
  [ "$(wc -l <"$name-result/scores.csv")" = 15 ] || complain "$name: scores.csv has $(wc -l <"$name-result/scores.csv") lines, want 15"
}

method destseg ',level1,level2,level3,l1,focal'
method simplenet '' --set target_dim=96 --set pretrain_dim=96 --set hidden=64
expect 2 '*patch=2, want an odd number*' adze-train --method simplenet --weights resnet18.h5 --backbone resnet18 --data toy --out even --set patch=2
expect 2 "*layer 'layer9' is unknown to resnet18*" adze-train --method simplenet --weights resnet18.h5 --backbone resnet18 --data toy --out deep \
  --set layers=layer2,layer9
expect 3 '*6 training pictures are fewer than a batch of 32*--batch*' adze-train --method simplenet --weights resnet18.h5 --backbone resnet18 \
  --data toy --class product_01 --out few --size 64
nothing_half .
exit $failed
