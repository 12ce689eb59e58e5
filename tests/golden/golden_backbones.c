/* golden_backbones.c - reference cases of backbones. */
#include "tests/golden/golden.h"

bool golden_backbones(golden *g)
{
    (void)g;
    return false;
}
