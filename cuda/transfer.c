/* transfer.c - copies between host and device memory: uploads, downloads, and letters. Entry: adze_cuda_write(), adze_cuda_read(),
 * adze_cuda_letters_create().
 *
 * Large uploads go in pieces through slots of pinned memory on a stream of their own, beside the computation, to device memory of the
 * slot, and from there in order with the computation to their place. The slots are a ring, filled one behind the other; a training reserves
 * what two steps write, so that one that is a step ahead never waits for a slot. What is small goes straight to its place, from another ring.
 */
#include <stdbool.h>
#include <string.h>

#include "core/memory.h"
#include "cuda/cuda_state.h"

enum { SLOT_BYTES = 2 << 20, FEWEST_SLOTS = 2, SMALL_BYTES = 4096, ALIGN = 64 };

/* ---- uploads ---- */

static void slot_free(adze_ctx *ctx, adze_cuda_slot *slot)
{
    if (slot->copied) cudaEventDestroy(slot->copied);
    if (slot->done) cudaEventDestroy(slot->done);
    if (slot->pinned) cudaFreeHost(slot->pinned);
    adze_cuda_free(ctx, slot->device);
    *slot = (adze_cuda_slot){ .pinned = NULL };
}

static adze_status slot_make(adze_ctx *ctx, adze_cuda_slot *slot)
{
    adze_status st = ADZE_OK;
    TRY(adze_cuda_alloc(ctx, SLOT_BYTES, ADZE_BLOCK_UPLOADS, &slot->device));
    TRY(adze_cuda_check(cudaMallocHost(&slot->pinned, SLOT_BYTES), "pinned host memory"));
    TRY(adze_cuda_check(cudaEventCreateWithFlags(&slot->copied, cudaEventDisableTiming), "events"));
    TRY(adze_cuda_check(cudaEventCreateWithFlags(&slot->done, cudaEventDisableTiming), "events"));
done:
    if (st != ADZE_OK) slot_free(ctx, slot);
    return st;
}

/* Slots that hold writes of n_bytes at once. */
static int slots_for(size_t n_bytes)
{
    size_t n = n_bytes / SLOT_BYTES + FEWEST_SLOTS;
    return n < ADZE_CUDA_SLOTS ? (int)n : ADZE_CUDA_SLOTS;
}

size_t adze_cuda_reserve_bytes(const adze_ctx *ctx, size_t n_bytes)
{
    const adze_cuda_state *s = adze_cuda_state_of(ctx);
    const int n = slots_for(n_bytes);
    return n > s->n_slots ? (size_t)(n - s->n_slots) * SLOT_BYTES : 0;
}

adze_status adze_cuda_reserve(adze_ctx *ctx, size_t n_bytes)
{
    adze_cuda_state *s = adze_cuda_state_of(ctx);
    int before;
    adze_status st = adze_cuda_go_to_device(s, &before);
    if (st != ADZE_OK) return st;
    while (st == ADZE_OK && s->n_slots < slots_for(n_bytes)) {
        st = slot_make(ctx, &s->slot[s->n_slots]);
        s->n_slots += st == ADZE_OK;
    }
    adze_cuda_go_back(s, before);
    return st;
}

/* Waits for an event only if it has not come. */
static adze_status wait_for(cudaEvent_t event)
{
    cudaError_t e = cudaEventQuery(event);
    if (e == cudaErrorNotReady) {
        cudaGetLastError(); /* stays set otherwise, and the next launch is blamed */
        e = cudaEventSynchronize(event);
    }
    return adze_cuda_check(e, "running");
}

/* The slot being filled, which has room from `used` on: behind a full one the oldest, when nothing uses it any more. */
static adze_status ready_slot(adze_ctx *ctx, adze_cuda_slot **out)
{
    adze_status st = ADZE_OK;
    adze_cuda_state *s = adze_cuda_state_of(ctx);
    if (s->n_slots == 0) TRY(adze_cuda_reserve(ctx, 0));
    if (s->slot[s->current_slot].used == SLOT_BYTES) {
        s->current_slot = (s->current_slot + 1) % s->n_slots;
        TRY(wait_for(s->slot[s->current_slot].done));
        s->slot[s->current_slot].used = 0;
    }
    *out = &s->slot[s->current_slot];
done:
    return st;
}

static size_t aligned(size_t n_bytes) { return (n_bytes + ALIGN - 1) / ALIGN * ALIGN; }

/* The next n_bytes of the ring. A segment is filled again when what was in it has been copied. */
static adze_status ready_small(adze_cuda_state *s, size_t n_bytes, unsigned char **out)
{
    adze_status st = ADZE_OK;
    if (!s->small) {
        void *p;
        TRY(adze_cuda_check(cudaMallocHost(&p, ADZE_CUDA_SEGMENTS * ADZE_CUDA_SEGMENT_BYTES), "pinned host memory"));
        s->small = p;
        for (int i = 0; i < ADZE_CUDA_SEGMENTS; i++)
            TRY(adze_cuda_check(cudaEventCreateWithFlags(&s->segment_done[i], cudaEventDisableTiming), "events"));
    }
    if (s->segment_used + n_bytes > ADZE_CUDA_SEGMENT_BYTES) {
        TRY(adze_cuda_check(cudaEventRecord(s->segment_done[s->segment], s->stream), "an upload"));
        s->segment = (s->segment + 1) % ADZE_CUDA_SEGMENTS;
        s->segment_used = 0;
        TRY(wait_for(s->segment_done[s->segment]));
    }
    *out = s->small + s->segment * ADZE_CUDA_SEGMENT_BYTES + s->segment_used;
    s->segment_used += aligned(n_bytes);
done:
    return st;
}

static adze_status write_small(adze_cuda_state *s, void *to, const void *from_host, size_t n_bytes)
{
    unsigned char *pinned;
    adze_status st = ready_small(s, n_bytes, &pinned);
    if (st != ADZE_OK) return st;
    memcpy(pinned, from_host, n_bytes);
    return adze_cuda_check(cudaMemcpyAsync(to, pinned, n_bytes, cudaMemcpyHostToDevice, s->stream), "upload");
}

/* `pinned`: the host's bytes need no copy of their own. */
static adze_status write_large(adze_ctx *ctx, char *to, const char *from_host, size_t n_bytes, bool pinned)
{
    adze_status st = ADZE_OK;
    const adze_cuda_state *s = adze_cuda_state_of(ctx);
    for (size_t at = 0, n; at < n_bytes; at += n) {
        adze_cuda_slot *slot;
        TRY(ready_slot(ctx, &slot));
        n = n_bytes - at < SLOT_BYTES - slot->used ? n_bytes - at : SLOT_BYTES - slot->used;
        char *host = (char *)slot->pinned + slot->used, *device = (char *)slot->device + slot->used;
        if (!pinned) memcpy(host, from_host + at, n);
        cudaError_t e = cudaMemcpyAsync(device, pinned ? from_host + at : host, n, cudaMemcpyHostToDevice, s->upload);
        if (e == cudaSuccess) e = cudaEventRecord(slot->copied, s->upload);
        if (e == cudaSuccess) e = cudaStreamWaitEvent(s->stream, slot->copied, 0);
        if (e == cudaSuccess) e = cudaMemcpyAsync(to + at, device, n, cudaMemcpyDeviceToDevice, s->stream);
        if (e == cudaSuccess) e = cudaEventRecord(slot->done, s->stream);
        TRY(adze_cuda_check(e, "upload"));
        slot->used += aligned(n);
    }
done:
    return st;
}

static adze_status write_any(adze_ctx *ctx, void *to, const void *from_host, size_t n_bytes, bool pinned)
{
    adze_cuda_state *s = adze_cuda_state_of(ctx);
    int before;
    adze_status st = adze_cuda_go_to_device(s, &before);
    if (st != ADZE_OK) return st;
    st = n_bytes <= SMALL_BYTES ? write_small(s, to, from_host, n_bytes) : write_large(ctx, to, from_host, n_bytes, pinned);
    adze_cuda_go_back(s, before);
    return st;
}

adze_status adze_cuda_write(adze_ctx *ctx, void *to, const void *from_host, size_t n_bytes)
{
    return write_any(ctx, to, from_host, n_bytes, false);
}

adze_status adze_cuda_write_pinned(adze_ctx *ctx, void *to, const void *from_pinned, size_t n_bytes)
{
    return write_any(ctx, to, from_pinned, n_bytes, true);
}

adze_status adze_cuda_pin(adze_ctx *ctx, void *host, size_t n_bytes)
{
    const adze_cuda_state *s = adze_cuda_state_of(ctx);
    int before;
    adze_status st = adze_cuda_go_to_device(s, &before);
    if (st != ADZE_OK) return st;
    st = adze_cuda_check(cudaHostRegister(host, n_bytes, cudaHostRegisterDefault), "pinned host memory");
    adze_cuda_go_back(s, before);
    return st;
}

void adze_cuda_unpin(adze_ctx *ctx, void *host)
{
    const adze_cuda_state *s = adze_cuda_state_of(ctx);
    int before;
    if (adze_cuda_go_to_device(s, &before) != ADZE_OK) return;
    cudaStreamSynchronize(s->stream);
    if (cudaHostUnregister(host) != cudaSuccess) cudaGetLastError();
    adze_cuda_go_back(s, before);
}

void adze_cuda_transfer_close(adze_ctx *ctx)
{
    adze_cuda_state *s = adze_cuda_state_of(ctx);
    for (int i = 0; i < s->n_slots; i++) slot_free(ctx, &s->slot[i]);
    for (int i = 0; i < ADZE_CUDA_SEGMENTS; i++)
        if (s->segment_done[i]) cudaEventDestroy(s->segment_done[i]);
    if (s->small) cudaFreeHost(s->small);
}

/* ---- downloads ---- */

adze_status adze_cuda_read(adze_ctx *ctx, void *to_host, const void *from, size_t n_bytes)
{
    const adze_cuda_state *s = adze_cuda_state_of(ctx);
    cudaError_t e = cudaMemcpyAsync(to_host, from, n_bytes, cudaMemcpyDeviceToHost, s->stream);
    if (e == cudaSuccess) e = cudaStreamSynchronize(s->stream);
    return adze_cuda_check(e, "download");
}

/* ---- letters ---- */

typedef struct {
    size_t n_bytes; /* of one */
    int n_letters;
    unsigned char *content; /* owned, pinned */
    cudaEvent_t event[];    /* owned: of each letter's arrival */
} letters;

void adze_cuda_letters_destroy(adze_ctx *ctx, void *box)
{
    const adze_cuda_state *s = adze_cuda_state_of(ctx);
    letters *l = box;
    int before;
    if (!l) return;
    if (adze_cuda_go_to_device(s, &before) == ADZE_OK) {
        cudaStreamSynchronize(s->stream);
        for (int i = 0; i < l->n_letters; i++)
            if (l->event[i]) cudaEventDestroy(l->event[i]);
        if (l->content) cudaFreeHost(l->content);
        adze_cuda_go_back(s, before);
    }
    adze_free(l);
}

adze_status adze_cuda_letters_create(adze_ctx *ctx, void **box, int n_letters, size_t n_bytes)
{
    adze_status st = ADZE_OK;
    const adze_cuda_state *s = adze_cuda_state_of(ctx);
    int before;
    letters *l = adze_calloc(1, sizeof *l + (size_t)n_letters * sizeof *l->event);
    *box = NULL;
    REQUIRE(l, ADZE_ENOMEM, "%d letters", n_letters);
    l->n_bytes = n_bytes, l->n_letters = n_letters;
    TRY(adze_cuda_go_to_device(s, &before));
    void *content = NULL;
    cudaError_t e = cudaMallocHost(&content, (size_t)n_letters * n_bytes);
    l->content = content;
    for (int i = 0; i < n_letters && e == cudaSuccess; i++) e = cudaEventCreateWithFlags(&l->event[i], cudaEventDisableTiming);
    adze_cuda_go_back(s, before);
    TRY(adze_cuda_check(e, "letters"));
    *box = l;
    l = NULL;
done:
    adze_cuda_letters_destroy(ctx, l);
    return st;
}

adze_status adze_cuda_letter_send(adze_ctx *ctx, void *box, int letter, const void *from)
{
    letters *l = box;
    cudaStream_t stream = adze_cuda_stream(ctx);
    cudaError_t e = cudaMemcpyAsync(l->content + (size_t)letter * l->n_bytes, from, l->n_bytes, cudaMemcpyDeviceToHost, stream);
    if (e == cudaSuccess) e = cudaEventRecord(l->event[letter], stream);
    return adze_cuda_check(e, "letter");
}

adze_status adze_cuda_letter_open(adze_ctx *ctx, void *box, int letter, const void **content)
{
    const letters *l = box;
    (void)ctx;
    *content = l->content + (size_t)letter * l->n_bytes;
    return wait_for(l->event[letter]);
}
