#!/bin/bash
# test_ranks.sh BIN MAKE_WEIGHTS TINY_TRAIN - a training by several ranks under mpirun: the losses of one process, the same bytes
# every time, one set of files; what ranks cannot do is refused. Skipped without mpirun or without adze_mpi.so.
. "$(dirname "$0")/toy.sh"
tiny_train=$3
for missing in "$(command -v mpirun >/dev/null || echo mpirun)" "$([ -e "$bin/../lib/adze_mpi.so" ] || echo adze_mpi.so)"; do
  [ -z "$missing" ] || { echo "SKIPPED: no $missing (Debian packages openmpi-bin and libopenmpi-dev)" >&2; exit 77; }
done
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 # in containers
export ADZE_BACKEND_PATH=$bin/../lib ADZE_DEVICE=cpu ADZE_THREADS=1
export ASAN_OPTIONS=detect_leaks=0 # MPI's own
ranks=(mpirun --oversubscribe --bind-to none)
tiny=("$tiny_train" --method tiny --weights resnet18.h5 --data toy --class product_01 --size 32 --epochs 10)
plain=("${tiny[@]}" --set plain=yes)

# A loss that is a mean over pictures, and no batch norm: the means are those of one process but for the rounding of each step.
expect 0 '' "${plain[@]}" --batch 6 --out one --log quiet
for n in 2 3; do
  expect 0 "*$n ranks, $((6 / n)) pictures each per step*product_01: *" "${ranks[@]}" -np $n "${plain[@]}" --batch 6 --out ranks$n
  [ "$(find ranks$n -type f | sed 's/.*\///' | sort | paste -sd ' ')" = "$(find one -type f | sed 's/.*\///' | sort | paste -sd ' ')" ] ||
    complain "$n ranks leave other files: $(find ranks$n -type f)"
  paste -d, <(cut -d, -f2,4 one/product_01/train.csv) <(cut -d, -f4 ranks$n/product_01/train.csv) |
    awk -F, 'NR > 1 { d = $2 - $3; if (d < 0) d = -d; rows++; if (!(d <= 4 * $1 * 2 ^ -24 * $2)) bad++ } END { exit bad > 0 || rows != 10 }' ||
    complain "$n ranks have other losses: $(paste -d' ' one/product_01/train.csv ranks$n/product_01/train.csv)"
done
expect 0 '' "${ranks[@]}" -np 2 "${plain[@]}" --batch 6 --out again --log quiet
same again/product_01/model.h5 ranks2/product_01/model.h5
rm again/product_01/model.h5
expect 0 '*resumed behind step 10*' "${ranks[@]}" -np 2 "${plain[@]}" --batch 6 --out again --resume
same again/product_01/model.h5 ranks2/product_01/model.h5

# With batch norm the ranks' statistics are their own, and their mean is kept: adze-train itself compares the ranks at the end.
expect 0 '*2 ranks, 1 pictures each per step*product_01: *' "${ranks[@]}" -np 2 "${tiny[@]}" --batch 2 --out norm
expect 0 '' "${ranks[@]}" -np 2 "${tiny[@]}" --batch 2 --cache off --out norm2 --log quiet
same norm/product_01/model.h5 norm2/product_01/model.h5

# The same on emulated GPUs, whose gradients meet in the recorded step: sums of float32, and the same bits for all.
if [ -e "$bin/../lib/adze_cusim.so" ]; then
  export ADZE_CUSIM_CHECKS=fast
  expect 0 '' "${plain[@]}" --device cusim --batch 6 --out gpu-one --log quiet
  for n in 2 3; do
    expect 0 "*$n ranks, $((6 / n)) pictures each per step*product_01: *" "${ranks[@]}" -np $n "${plain[@]}" --device cusim --batch 6 --out gpu$n
    paste -d, <(cut -d, -f2,4 gpu-one/product_01/train.csv) <(cut -d, -f4 gpu$n/product_01/train.csv) |
      awk -F, 'NR > 1 { d = $2 - $3; if (d < 0) d = -d; rows++; if (!(d <= 4 * $1 * 2 ^ -24 * $2)) bad++ } END { exit bad > 0 || rows != 10 }' ||
      complain "$n emulated GPUs have other losses: $(paste -d' ' gpu-one/product_01/train.csv gpu$n/product_01/train.csv)"
  done
  expect 0 '' "${ranks[@]}" -np 2 "${plain[@]}" --device cusim --batch 6 --out gpu-again --log quiet
  same gpu-again/product_01/model.h5 gpu2/product_01/model.h5
  expect 0 '' "${ranks[@]}" -np 2 "${tiny[@]}" --device cusim --batch 2 --out gpu-norm --log quiet
  expect 2 '*--device cusim:1: several ranks take a GPU each*' "${ranks[@]}" -np 2 "${plain[@]}" --device cusim:1 --batch 6 --out no
  expect 4 '*several ranks on GPUs need NCCL 2*' env ADZE_CUSIM_LACKS=nccl "${ranks[@]}" -x ADZE_CUSIM_LACKS -np 2 "${plain[@]}" --device cusim --batch 6 --out no
  expect 4 '*cusim:4: there are 4, counted from 0*' "${ranks[@]}" -np 6 "${plain[@]}" --device cusim --batch 6 --out no
  expect 2 '*--device cuda:1: several ranks take a GPU each*' "${ranks[@]}" -np 2 "${plain[@]}" --device cuda:1 --batch 6 --out no
else echo "without adze_cusim.so: several ranks on emulated GPUs are left out" >&2; fi

expect 2 '*batch 3: 2 ranks need a multiple of 2*' "${ranks[@]}" -np 2 "${plain[@]}" --batch 3 --out no
expect 2 "*tiny draws numbers in each step ('noise')*" "${ranks[@]}" -np 2 "${tiny[@]}" --set parts=yes --batch 2 --out no
expect 2 '*patchcore is not trained by gradients*' "${ranks[@]}" -np 2 adze-train "${model[@]}" --data toy --out no2
expect 2 '*--cache x.h5: several ranks share no file*' "${ranks[@]}" -np 2 "${plain[@]}" --batch 2 --cache x.h5 --out no
expect 0 '' mpirun -np 1 "${plain[@]}" --batch 6 --out alone --log quiet
same alone/product_01/model.h5 one/product_01/model.h5
exit $failed
