#!/bin/bash
# test_textures.sh BIN MAKE_WEIGHTS - what DeSTSeg pastes: a folder's pictures, the other classes' good ones, or built-in patterns;
# which it is, is said and recorded, and must not change on resume. Its two ways to read pictures, its three image scores.
. "$(dirname "$0")/toy.sh"

train=(adze-train --method destseg --weights resnet18.h5 --backbone resnet18 --size 32 --batch 2 --threads 2)
recorded() { # RUN TEXT
  grep -q "\"facts\": \".*, textures: $2\"" "$1/run.json" || complain "$1/run.json does not say: $2"
}

expect 0 '*product_01: textures of synthetic defects: good pictures of other classes, 12 in all*' "${train[@]}" --data toy --class product_01 \
  --epochs 2 --out others
recorded others 'good pictures of other classes, 12 in all'
expect 0 '*textures of synthetic defects: 6 pictures below toy/product_02/train*' "${train[@]}" --data toy --class product_01 --epochs 1 \
  --out folder --set textures=toy/product_02/train
recorded folder '6 pictures below toy/product_02/train'
expect 3 '*no such*' "${train[@]}" --data toy --class product_01 --epochs 2 --out none --set textures=nowhere
mkdir empty
expect 3 '*' "${train[@]}" --data toy --class product_01 --epochs 2 --out none --set textures=empty
mkdir alone && cp -r toy/product_01 alone/
expect 0 '*textures of synthetic defects: built-in patterns*' "${train[@]}" --data alone --epochs 1 --out alone-run
recorded alone-run 'built-in patterns'
differ folder/product_01/model.h5 alone-run/product_01/model.h5

# A resume with other textures is refused.
cp -r others changed && rm changed/product_01/model.h5
expect 3 '*textures*' "${train[@]}" --data toy --class product_01 --epochs 2 --out changed --resume --set textures=toy/product_02/train
expect 0 '*' "${train[@]}" --data toy --class product_01 --epochs 2 --out changed --resume
same others/product_01/model.h5 changed/product_01/model.h5

# Pictures as OpenCV reads them, or as all other methods; image scores.
expect 0 '*' "${train[@]}" --data toy --class product_01 --epochs 1 --out rgb --set channel_order=rgb --set image_score=topk100_256
expect 0 '*' "${train[@]}" --data toy --class product_01 --epochs 1 --out bgr --set image_score=topk100_64
differ rgb/product_01/model.h5 bgr/product_01/model.h5
scores() { # RUN: adze-eval's scores
  expect 0 '*' adze-eval --model "$1" --data toy --class product_01 --out "$1-result" --log quiet
  cut -d, -f4 "$1-result/scores.csv"
}
expect 0 '*' "${train[@]}" --data toy --class product_01 --epochs 1 --out max
differ <(scores max) <(scores bgr)
# The mean of 100 values lies below the largest one.
paste -d' ' <(scores max) <(scores bgr) | awk 'NR > 1 && !($2 <= $1) { bad = 1 } END { exit bad }' ||
  complain 'topk100_64 is above the maximum'
expect 0 '*path,score*' adze-predict --model bgr/product_01/model.h5 toy/product_01/test/good
expect 2 "*--batch 2*" adze-train --method destseg --weights resnet18.h5 --data toy --class product_01 --size 32 --batch 1 --out one
expect 2 "*multiples of 32*" adze-train --method destseg --weights resnet18.h5 --data toy --class product_01 --size 40 --batch 2 --out odd
nothing_half .
exit $failed
