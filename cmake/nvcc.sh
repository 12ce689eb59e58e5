# nvcc.sh LOG COMMAND... - runs nvcc, keeps what it says (with -Xptxas -v: registers and spills of each kernel) in LOG and
# shows of it only warnings and errors.
log=$1
shift
"$@" >"$log" 2>&1
code=$?
if [ $code != 0 ]; then cat "$log"; else grep -iE -A3 'warning|error' "$log" | grep -vE 'ptxas info|bytes stack frame'; fi
exit $code
