/* peak.h - what the benchmarks share: the clock, and the peaks that their floors are stated against. */
#ifndef ADZE_BENCH_PEAK_H
#define ADZE_BENCH_PEAK_H

typedef enum { BENCH_F32, BENCH_BF16, BENCH_INT8 } bench_arithmetic;

double bench_seconds(void);

/* Operations per second (a multiply-add is two) of `threads` threads doing nothing but independent multiply-adds in the
 * widest registers; in float32 where the machine lacks the instruction. Best of a few tenths of a second. */
double bench_peak_flops(int threads, bench_arithmetic kind);
/* Bytes read and written per second by `threads` threads that copy blocks far larger than the caches; 0 without memory. Best
 * of several. */
double bench_copy_rate(int threads);

#endif
