/* peak.h - what the benchmarks share: the clock, and the arithmetic peak that their floors are stated against. */
#ifndef ADZE_BENCH_PEAK_H
#define ADZE_BENCH_PEAK_H

typedef enum { BENCH_F32, BENCH_BF16, BENCH_INT8 } bench_arithmetic;

double bench_seconds(void);

/* Operations per second (a multiply-add is two) of `threads` threads doing nothing but independent multiply-adds in the
 * widest registers; in float32 where the machine lacks the instruction. Best of a few tenths of a second. */
double bench_peak_flops(int threads, bench_arithmetic kind);

#endif
