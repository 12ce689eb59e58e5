#!/bin/bash
# gpu_check.sh ROOT - ./run gpu-check by itself: which parts it runs, with which words, what the report says of failures. Everything that
# it starts is a stub here; ADZE_GPU_CHECK=rehearsal ./run gpu-check runs the real things on the emulator.
set -u
root=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
complain() { echo "FAILED: $*"; failed=1; }

mkdir -p "$work"/{stubs,tree/bench/results,tree/build/bin,tree/build/tests,tree/tests/cuda,tree/tests/golden/{ops,rd,patchcore,backbones}}
cp "$root/run" "$work/tree/run"
cd "$work/tree" || exit 1
touch tests/golden/{ops,rd,patchcore,backbones}/{one,tiny_test}.json bench/compare_forward.py
cat >"$work/stub" <<'STUB'
#!/bin/bash
name=$(basename "$0")
[ "$name" = nvidia-smi ] && [[ "$*" == *noheader* ]] && { echo 'GeForce RTX 4090, 24 GB'; exit 0; }
echo "ran $name $* on ${ADZE_TEST_DEVICE:-cpu}"
[ "$name" != "${BROKEN:-}" ]
STUB
chmod +x "$work/stub"
for name in cmake ninja ctest nvidia-smi python3; do cp "$work/stub" "$work/stubs/$name"; done
for name in adze golden adze-bench bench-kernels bench-train bench-forward; do cp "$work/stub" "build/bin/$name"; done
for name in test_ops test_ops_train test_recording test_device_calls; do cp "$work/stub" "build/tests/$name"; done
cp "$work/stub" tests/cuda/test_device.sh
export PATH=$work/stubs:$PATH
unset ADZE_TEST_DEVICE ADZE_BACKEND_PATH ADZE_CUDA ADZE_GPU_CHECK

# expect STATUS COMMAND...
expect() {
  local want=$1 code=0
  shift
  "$@" >out 2>&1 || code=$?
  [ $code = "$want" ] || { complain "status $code, want $want: $*"; cat out; }
}
# holds FILE TEXT...: each on a line of its own
holds() {
  local file=$1 text
  shift
  for text in "$@"; do grep -qxF -- "$text" "$file" || { complain "$file lacks '$text'"; cat "$file"; }; done
}

# A card: every part once, on it; the report is named after it.
report=bench/results/gpu-check-GeForce-RTX-4090-24-GB.txt
expect 0 ./run gpu-check
holds $report 'ran adze doctor on cuda' 'ran test_ops  on cuda' 'ran test_ops_train  on cuda' 'ran test_recording  on cuda' \
  'ran test_device_calls  on cuda' "ran test_device.sh $PWD/build/bin $PWD/build/tests/make_weights on cuda" \
  'ran adze-bench kernels --device cuda on cuda' 'ran adze-bench train --profile --device cuda on cuda' \
  'ran adze-bench predict --profile --device cuda on cuda' 'ran python3 bench/compare_forward.py --bin build/bin --device cuda on cuda' 'failed: nothing'
grep -q 'ran golden --quiet --device cuda .*tests/golden/backbones/one.json.* on cuda$' $report || complain 'reference cases are missing'
grep -q '^ran ctest --test-dir build .* on cpu$' $report || complain 'the tests of the cpu run elsewhere'
grep -q REHEARSAL $report && complain 'a rehearsal on a card'

# What fails is named; the rest is done all the same.
BROKEN=golden expect 1 ./run gpu-check
holds $report 'reference cases: status 1' 'kernels: status 0' "failed: 'reference cases'"
BROKEN=python3 expect 0 ./run gpu-check
holds $report 'PyTorch with CUDA is not installed: nothing to compare with.' 'failed: nothing'

# No card, and the rehearsal, which does without and says so first.
BROKEN=nvidia-smi expect 4 ./run gpu-check
grep -q 'there is no GPU' out || complain 'it does not say that there is no GPU'
ADZE_GPU_CHECK=yes expect 2 ./run gpu-check
rm -r bench/results
BROKEN=nvidia-smi ADZE_GPU_CHECK=rehearsal expect 0 ./run gpu-check
report=build/gpu-check-rehearsal.txt
[ "$(head -n 1 $report)" = 'REHEARSAL on the emulated device: no GPU was used, times say nothing.' ] || complain "$report does not begin with what it is"
holds $report 'ran test_device_calls  on cusim' 'ran bench-kernels --device cusim --shrink 8 --batch 1 --repeat 1 on cusim' 'failed: nothing'
exit $failed
