/* optim_step.c - the constants of an optimiser's step, for all backends alike. Entry: adze_optim_rates_at(). */
#include "core/optim_step.h"

#include <math.h>

void adze_optim_rates_at(adze_optim_rates *rates, const adze_optim_at *at)
{
    const double c1 = 1.0 - pow(at->beta1, (double)at->step), c2 = 1.0 - pow(at->beta2, (double)at->step);
    const bool decoupled = at->kind == ADZE_OPTIM_ADAMW;
    for (int i = 0; i < ADZE_OPTIM_GROUPS; i++) {
        const adze_optim_group *g = &at->group[i];
        rates->group[i].decay = decoupled ? 0.0f : (float)g->weight_decay;
        rates->group[i].shrink = decoupled ? (float)(1.0 - g->lr * g->weight_decay) : 1.0f;
        rates->group[i].lr = (float)g->lr;
        rates->group[i].rate = (float)(g->lr / c1);
    }
    rates->root_c2 = (float)sqrt(c2);
}
