/* golden_ops.c - reference cases of ops. */
#include "tests/golden/golden.h"

bool golden_ops(golden *g)
{
    (void)g;
    return false;
}
