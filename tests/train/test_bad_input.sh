#!/bin/bash
# test_bad_input.sh BIN MAKE_WEIGHTS - what a user can do wrong, and files that are not what they seem: a clear message, the
# promised exit status, and never a crash.
. "$(dirname "$0")/toy.sh"
train=(adze-train "${model[@]}" --log quiet)
one=(--data toy --class product_01)
bare=(adze-train --method patchcore --backbone resnet18 --log quiet "${one[@]}") # no weights, no size

# Names and options: 2, with what is near.
expect 2 "*method 'patchcor' is unknown; did you mean 'patchcore'?*" adze-train --method patchcor "${one[@]}" --out x
expect 2 "*backbone 'resnet81' is unknown; did you mean 'resnet18'?*" adze-train --method patchcore --backbone resnet81 "${one[@]}" --out x
expect 2 "*'--sead'*'--seed'*" "${train[@]}" "${one[@]}" --sead 3 --out x
expect 2 "*'coresett'*'coreset'*" "${train[@]}" "${one[@]}" --set coresett=0.1 --out x
expect 2 "*sampler*'exakt'*'exact'*" "${train[@]}" "${one[@]}" --set sampler=exakt --out x
expect 2 "*coreset: 2 is outside 1e-06 to 1*" "${bare[@]}" --set coreset=2 --out x
expect 2 "*'layer7'*layer3*" "${train[@]}" "${one[@]}" --set layers=layer7 --out x
expect 2 '*--method is missing*' adze-train "${one[@]}" --out x
expect 2 '*--data is missing*' "${train[@]}" --out x
expect 2 '*--out is missing*' "${train[@]}" "${one[@]}"
expect 2 '*--model is missing*' adze-eval --data toy --out x
expect 2 '*no picture or folder given*' adze-predict --model resnet18.h5
printf 'seed: 1\nsede: 2\n' >typo.yaml
expect 2 "*typo.yaml*2*'sede'*'seed'*" adze-train --config typo.yaml

# Data: 3, with the file or the nearest name.
expect 3 '*nowhere: no such folder*' "${train[@]}" --data nowhere --out x
expect 3 "*no class 'product_1', did you mean 'product_01'?*" "${train[@]}" --data toy --class product_1 --out x
mkdir empty
expect 3 '*empty*' "${train[@]}" --data empty --out x
cp -r toy untrained && rm untrained/product_01/train/good/*
expect 3 '*product_01*no training pictures*' "${train[@]}" --data untrained --class product_01 --out x
cp -r toy corrupt && head -c 300 toy/product_01/train/good/003.png >corrupt/product_01/train/good/003.png
expect 3 '*product_01/train/good/003.png: PNG: truncated*' "${train[@]}" --data corrupt --class product_01 --out x
[ -e x/product_01/model.h5 ] && complain "a model was made of a corrupt data set"
printf 'no picture at all' >corrupt/product_01/train/good/003.png
expect 3 '*product_01/train/good/003.png: *' "${train[@]}" --data corrupt --class product_01 --out x
: >corrupt/product_01/train/good/003.png
expect 3 '*product_01/train/good/003.png: *' "${train[@]}" --data corrupt --class product_01 --out x
rm corrupt/product_01/train/good/003.png && mkdir corrupt/product_01/train/good/003.png
expect 0 '*' "${train[@]}" --data corrupt --class product_01 --out x # a folder is no picture

# Weights: 3, with the command that makes them.
expect 3 '*no weights for resnet18*adze-weights import * --as resnet18 -o *' "${bare[@]}" --out x
expect 3 '*nowhere.h5: no such*adze-weights import * --as resnet18 -o nowhere.h5*' "${bare[@]}" --weights nowhere.h5 --out x
expect 3 '*efficientnet_lite0.h5: weights of efficientnet_lite0, the run uses --backbone resnet18*' \
  "${bare[@]}" --weights efficientnet_lite0.h5 --out x

# Checkpoints and weights that are something else: 3, from every program.
expect 0 '*' "${train[@]}" "${one[@]}" --out run
good=run/product_01/model.h5
size=$(stat -c %s $good)
mkdir bad
head -c $((size / 2)) $good >bad/half.h5
head -c 511 $good >bad/stub.h5
: >bad/empty.h5
printf 'a text, not a checkpoint\n' >bad/text.h5
head -c 100000 /dev/urandom >bad/noise.h5
mkdir bad/folder.h5
cp resnet18.h5 bad/weights.h5
cp $good bad/flipped.h5 # one bit, far inside
byte=$(od -An -tu1 -j $((size - 5000)) -N 1 $good)
printf "\\x$(printf %02x $((byte ^ 4)))" |
  dd of=bad/flipped.h5 bs=1 seek=$((size - 5000)) conv=notrunc status=none
cp $good bad/seal.h5 # and one in what guards it
printf X | dd of=bad/seal.h5 bs=1 seek=40 conv=notrunc status=none
expect 0 '*' adze-eval --model run "${one[@]}" --out maps --heatmaps=no --save-maps --log quiet
cp maps/maps.h5 bad/maps.h5
for file in bad/*.h5; do
  [ $file = bad/folder.h5 ] || expect 3 "*$file: *" adze-eval --model $file "${one[@]}" --out y
  expect 3 "*$file*" adze-predict --model $file toy/product_01/test/good/000.png
  [ $file = bad/weights.h5 ] || expect 3 "*$file*" "${bare[@]}" --weights $file --out y
done
expect 3 '*bad/folder.h5 has no checkpoint*' adze-eval --model bad/folder.h5 "${one[@]}" --out y
expect 3 '*nowhere.h5: no such file*' adze-eval --model nowhere.h5 "${one[@]}" --out y
expect 3 '*nowhere.h5*' adze-predict --model nowhere.h5 toy/product_01/test/good/000.png
expect 3 "*no checkpoint of class 'product_02'*" adze-eval --model run --data toy --class product_02 --out y
cp $good bad/model.h5
expect 3 "*$good: *checkpoint*" "${bare[@]}" --weights $good --out y # a checkpoint is no weights file
for cut in 0 1 8 100 512 513 600 1000 2048 $((size / 3)) $((size - 1)); do # cut anywhere
  head -c $cut $good >bad/model.h5
  expect 3 '*bad/model.h5: *' adze-predict --model bad/model.h5 toy/product_01/test/good/000.png
done

# Test data.
cp -r toy broken && head -c 300 toy/product_01/test/good/001.png >broken/product_01/test/good/001.png
expect 3 '*product_01/test/good/001.png: PNG: truncated*' adze-eval --model run --data broken --class product_01 --out y
expect 3 '*broken/product_01/test/good/001.png: PNG: truncated*' adze-predict --model $good broken/product_01/test/good
expect 3 '*nowhere.png*' adze-predict --model $good nowhere.png
cp -r toy wrong && cp toy/product_01/test/good/000.png wrong/product_01/ground_truth/broken/000_mask.png
rm -r wrong/product_01/test/good wrong/product_01/ground_truth/stain
expect 3 '*product_01/test/stain/000.png*mask*' adze-eval --model run --data wrong --class product_01 --out y

# Too little memory: 4, the largest part and the flag.
expect 4 '*--memory-limit is *; the largest part is patch features with *: a larger --memory-limit*' \
  "${bare[@]}" --weights resnet18.h5 --size 256 --batch 1 --out z --memory-limit 60M
expect 4 '*--memory-limit is 21.0 MB: a larger one*' "${train[@]}" "${one[@]}" --out z --memory-limit 20M
expect 4 '*a larger --memory-limit helps*' adze-eval --model run "${one[@]}" --out z --memory-limit 2M
expect 4 '*--memory-limit is 1.0 MB: a larger one*' adze-predict --model $good toy/product_01/test --memory-limit 1M
[ -e z/product_01/model.h5 ] && complain "a model was made without memory"
expect 4 '*standard output*' bash -c "adze-predict --model $good toy/product_01/test >/dev/full"
nothing_half .

# A checkpoint whose seal is whole and whose weights are not: bad input, not an internal error.
reseal() { # FILE
  tail -c +513 "$1" | sha256sum | head -c 64 | dd of="$1" bs=1 seek="$(head -n 2 "$1" | wc -c)" conv=notrunc status=none
}
expect 0 '' "${train[@]}" "${one[@]}" --out sealed
cp sealed/product_01/model.h5 same.h5 && reseal same.h5 && same sealed/product_01/model.h5 same.h5
cp same.h5 nan.h5
head -c 4096 /dev/zero | tr '\0' '\377' | dd of=nan.h5 bs=1 seek=$(($(stat -c %s nan.h5) / 2)) conv=notrunc status=none
expect 3 '*nan.h5: damaged*' adze-eval --model nan.h5 "${one[@]}" --out x
reseal nan.h5
expect 3 '*nan.h5: tensor *holds *nan*' adze-eval --model nan.h5 "${one[@]}" --out x
expect 3 '*nan.h5: tensor *holds *nan*' adze-predict --model nan.h5 toy/product_01/test/good
cp same.h5 huge.h5
head -c 64k /dev/zero | tr '\0' '\177' | dd of=huge.h5 bs=4k seek=$(($(stat -c %s huge.h5) / 8192)) conv=notrunc status=none
reseal huge.h5
expect 3 '*huge.h5: its weights give no finite numbers: *' adze-eval --model huge.h5 "${one[@]}" --out x
expect 3 '*huge.h5: its weights give no finite numbers: *' adze-predict --model huge.h5 toy/product_01/test/good
exit $failed
