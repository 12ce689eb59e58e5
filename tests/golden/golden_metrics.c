/* golden_metrics.c - reference cases of metrics. */
#include "tests/golden/golden.h"

bool golden_metrics(golden *g)
{
    (void)g;
    return false;
}
