/* cusim_tensor.c - mma and ldmatrix of a warp, by the lane maps of the PTX manual (cuda/ptx.h shows them).
 * Products are summed in double and rounded once; hardware rounds otherwise, so results are compared with a tolerance. */
#include <string.h>

#include "cusim_impl.h"

typedef struct {
    cusim_mma_kind kind;
    void *d;
    const uint32_t *a, *b;
} mma_operands;

typedef struct {
    uint32_t *r;
    const unsigned char *row;
    int n_matrices;
    bool transposed;
    const void *pc;
} ldmatrix_operands;

void cusim_mma(cusim_mma_kind kind, void *d, const uint32_t *a, const uint32_t *b)
{
    mma_operands o = {kind, d, a, b};
    cusim_warp(CUSIM_MMA, 0xffffffffu, (uint64_t)(uintptr_t)&o, 0, CUSIM_WARP, "mma", 0);
}

void cusim_ldmatrix(uint32_t *r, const void *row, int n_matrices, bool transposed)
{
    ldmatrix_operands o = {r, row, n_matrices, transposed, __builtin_return_address(0)};
    cusim_warp(CUSIM_LDMATRIX, 0xffffffffu, (uint64_t)(uintptr_t)&o, 0, CUSIM_WARP, "ldmatrix", 0);
}

static float float_of_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static float float_of_half(uint32_t h)
{
    uint32_t sign = (h & 0x8000u) << 16, exponent = h >> 10 & 31u, fraction = h & 1023u;
    if (exponent == 0) return (sign ? -1.0f : 1.0f) * (float)fraction * 0x1p-24f;
    return float_of_bits(sign | (exponent == 31 ? 255u : exponent + 112u) << 23 | fraction << 13);
}

/* Element i of a register. */
static float element(cusim_mma_kind kind, uint32_t r, int i)
{
    switch (kind) {
    case CUSIM_MMA_BF16: return float_of_bits((i ? r >> 16 : r & 0xffffu) << 16);
    case CUSIM_MMA_F16: return float_of_half(i ? r >> 16 : r & 0xffffu);
    case CUSIM_MMA_TF32: return float_of_bits(r & ~0x1fffu);
    default: return (float)(int8_t)(r >> (8 * i) & 255u);
    }
}

void cusim_complete_mma(cusim_thread *warp)
{
    const mma_operands *lane[CUSIM_WARP];
    for (int l = 0; l < CUSIM_WARP; l++) lane[l] = (const mma_operands *)(uintptr_t)warp[l].value;
    cusim_mma_kind kind = lane[0]->kind;
    for (int l = 1; l < CUSIM_WARP; l++)
        if (lane[l]->kind != kind) cusim_fault(&warp[l], "mma: lanes 0 and %d multiply different types", l);
    /* per: elements in a register; columns of a: 8 times that */
    int per = kind == CUSIM_MMA_TF32 ? 1 : kind == CUSIM_MMA_S8 ? 4 : 2, K = 8 * per;
    float a[16][32], b[8][32]; /* b by columns */
    for (int l = 0; l < CUSIM_WARP; l++) {
        int g = l / 4, t = l % 4;
        for (int r = 0; r < 4; r++)
            for (int i = 0; i < per; i++) a[g + 8 * (r & 1)][per * t + 4 * per * (r / 2) + i] = element(kind, lane[l]->a[r], i);
        for (int r = 0; r < 2; r++)
            for (int i = 0; i < per; i++) b[g][per * t + 4 * per * r + i] = element(kind, lane[l]->b[r], i);
    }
    for (int l = 0; l < CUSIM_WARP; l++)
        for (int i = 0; i < 4; i++) {
            const float *row = a[l / 4 + 8 * (i / 2)], *column = b[2 * (l % 4) + (i & 1)];
            double sum = 0.0;
            for (int k = 0; k < K; k++) sum += (double)row[k] * column[k];
            if (kind == CUSIM_MMA_S8) ((int32_t *)lane[l]->d)[i] += (int32_t)sum;
            else ((float *)lane[l]->d)[i] = (float)((double)((float *)lane[l]->d)[i] + sum);
        }
}

void cusim_complete_ldmatrix(cusim_thread *warp)
{
    const ldmatrix_operands *lane[CUSIM_WARP];
    for (int l = 0; l < CUSIM_WARP; l++) lane[l] = (const ldmatrix_operands *)(uintptr_t)warp[l].value;
    int n = lane[0]->n_matrices;
    for (int l = 1; l < CUSIM_WARP; l++)
        if (lane[l]->n_matrices != n || lane[l]->transposed != lane[0]->transposed)
            cusim_fault(&warp[l], "ldmatrix: lanes 0 and %d load different shapes", l);
    for (int m = 0; m < n; m++) {
        uint16_t element_of[8][8];
        for (int r = 0; r < 8; r++) {
            const unsigned char *row = lane[8 * m + r]->row;
            if ((uintptr_t)row % 16 != 0) cusim_fault(&warp[8 * m + r], "ldmatrix: row at %p is not 16-byte aligned", (const void *)row);
            cusim_access(&warp[8 * m + r], row, 16, false, lane[8 * m + r]->pc);
            if (cusim_counting) cusim_count_access(&warp[8 * m + r], row, 16, false, lane[8 * m + r]->pc);
            memcpy(element_of[r], row, 16);
        }
        for (int l = 0; l < CUSIM_WARP; l++) {
            int g = l / 4, t = l % 4;
            lane[l]->r[m] = lane[0]->transposed ? element_of[2 * t][g] | (uint32_t)element_of[2 * t + 1][g] << 16
                                                : element_of[g][2 * t] | (uint32_t)element_of[g][2 * t + 1] << 16;
        }
    }
}
