/* rank_sort.c - least-significant-digit radix sort. Entry: adze_rank_sort().
 * Only the bits between low_bit and the highest bit in which keys differ are sorted, split evenly: scores between 1 and
 * 10 differ in 25 bits of 32, which makes three passes of 9 bits whose 512 write streams stay in the first-level cache. */
#include "eval/rank_sort.h"

#include "core/memory.h"

enum { DIGIT_BITS_MAX = 11 };

static void sort_digit(const uint64_t *from, uint64_t *to, const uint32_t *payload, uint32_t *payload_to, int64_t n,
                       int shift, int bits)
{
    int64_t start[1 << DIGIT_BITS_MAX] = { 0 };
    const uint64_t digit_mask = (UINT64_C(1) << bits) - 1;
    for (int64_t i = 0; i < n; i++) start[from[i] >> shift & digit_mask]++;
    int64_t sum = 0;
    for (uint64_t d = 0; d <= digit_mask; d++) {
        int64_t count = start[d];
        start[d] = sum;
        sum += count;
    }
    for (int64_t i = 0; i < n; i++) {
        int64_t where = start[from[i] >> shift & digit_mask]++;
        to[where] = from[i];
        if (payload) payload_to[where] = payload[i];
    }
}

adze_status adze_rank_sort(uint64_t *key, uint32_t *payload, int64_t n, int low_bit)
{
    adze_status st = ADZE_OK;
    uint64_t *spare = NULL, differ = 0;
    uint32_t *payload_spare = NULL;
    for (int64_t i = 1; i < n; i++) differ |= key[i] ^ key[0];
    differ >>= low_bit;
    if (differ == 0) return ADZE_OK;
    int bits = 64 - __builtin_clzll(differ), passes = (bits + DIGIT_BITS_MAX - 1) / DIGIT_BITS_MAX;
    int digit = (bits + passes - 1) / passes;

    REQUIRE(spare = adze_malloc((size_t)n * sizeof *spare), ADZE_ENOMEM, "rank sort: %zu host bytes",
            (size_t)n * sizeof *spare);
    if (payload)
        REQUIRE(payload_spare = adze_malloc((size_t)n * sizeof *payload_spare), ADZE_ENOMEM,
                "rank sort: %zu host bytes", (size_t)n * sizeof *payload_spare);
    uint64_t *from = key, *to = spare;
    uint32_t *payload_from = payload, *payload_to = payload_spare;
    for (int done = 0; done < bits; done += digit) {
        int width = bits - done < digit ? bits - done : digit;
        if ((differ >> done & ((UINT64_C(1) << width) - 1)) == 0) continue;
        sort_digit(from, to, payload_from, payload_to, n, low_bit + done, width);
        uint64_t *k = from;
        uint32_t *p = payload_from;
        from = to, to = k;
        payload_from = payload_to, payload_to = p;
    }
    if (from != key) {
        memcpy(key, from, (size_t)n * sizeof *key);
        if (payload) memcpy(payload, payload_from, (size_t)n * sizeof *payload);
    }
done:
    adze_free(spare);
    adze_free(payload_spare);
    return st;
}
