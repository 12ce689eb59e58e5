/* plan_engines.c - which engines of libraries a plan runs, as JSON for records. Entry: adze_plan_engines(). */
#include <inttypes.h>
#include <string.h>

#include "core/memory.h"
#include "core/plan_impl.h"

static void describe(const plan_step *step, const adze_engine *e, adze_text *t)
{
    const adze_call *c = &step->call;
    const adze_shape *y = &c->out[0].shape;
    adze_text_append(t, "{\"op\": ");
    adze_text_json(t, c->op->label ? c->op->label(c) : c->op->name);
    adze_text_printf(t, ", \"backward\": %s, \"output\": [", step->backward ? "true" : "false");
    for (int d = 0; d < y->rank; d++) adze_text_printf(t, "%s%" PRId64, d ? ", " : "", y->dim[d]);
    adze_text_append(t, "], \"part\": ");
    adze_text_json(t, e->part);
    adze_text_append(t, ", \"library\": ");
    adze_text_json(t, e->library);
    adze_text_printf(t, ", \"engine\": %" PRId64 ", \"choice\": %" PRId64 ", \"workspace_bytes\": %zu, \"chosen\": ", e->engine, e->choice,
                     e->workspace_bytes);
    adze_text_json(t, e->chosen);
    if (e->ms > 0.0) adze_text_printf(t, ", \"ms\": %.6f", e->ms);
}

/* Equal ones are one entry with their number. */
typedef struct {
    char *text; /* owned */
    int64_t count;
} entry;

static adze_status add(entry **list, int64_t *n, adze_text *t)
{
    adze_status st = ADZE_OK;
    TRY(adze_text_check(t, "engines"));
    for (int64_t i = 0; i < *n; i++)
        if (strcmp((*list)[i].text, t->s) == 0) {
            (*list)[i].count++;
            goto done;
        }
    entry *grown = adze_realloc(*list, (size_t)(*n + 1) * sizeof *grown);
    REQUIRE(grown, ADZE_ENOMEM, "a list of engines");
    *list = grown;
    REQUIRE(grown[*n].text = adze_strdup(t->s), ADZE_ENOMEM, "a list of engines");
    grown[(*n)++].count = 1;
done:
    return st;
}

adze_status adze_plan_engines(const adze_plan *plan, adze_text *out)
{
    adze_status st = ADZE_OK;
    entry *list = NULL;
    int64_t n = 0;
    for (int32_t s = 0; s < plan->n_steps; s++) {
        const plan_step *step = &plan->step[s];
        adze_engine engine[ADZE_ENGINES];
        int n_engines = step->call.kernel->engines ? step->call.kernel->engines(&step->call, engine) : 0;
        for (int i = 0; i < n_engines; i++) {
            adze_text t = ADZE_TEXT_EMPTY;
            describe(step, &engine[i], &t);
            st = add(&list, &n, &t);
            adze_text_destroy(&t);
            if (st != ADZE_OK) goto done;
        }
    }
    for (int64_t i = 0; i < n; i++)
        adze_text_printf(out, "%s%s, \"count\": %" PRId64 "}", out->n_bytes ? ",\n      " : "", list[i].text, list[i].count);
done:
    for (int64_t i = 0; i < n; i++) adze_free(list[i].text);
    adze_free(list);
    return st;
}
