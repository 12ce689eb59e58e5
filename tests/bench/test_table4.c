/* test_table4.c - the table of methods and classes: fed with the paper's own cells it gives the paper's means and spreads. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bench/reference_table4.h"
#include "bench/table4.h"

static const char *const methods[] = { "patchcore", "cflow", "destseg", "simplenet", "rd" };
static const char *const classes[] = { "building_block", "chain_buckle",      "geometric_block", "geometric_button", "geometric_snowflake",
                                       "magnetic_block", "magnetic_bookmark", "number_block",    "number_snowflake", "rabbit_pendant" };
enum { M = 5, C = 10 };

static void paper(table4_score s[C * M])
{
    for (int i = 0; i < C * M; i++) {
        double image_auroc, aupro;
        assert_true(reference_table4_find(methods[i % M], classes[i / M], &image_auroc, &aupro));
        s[i] = (table4_score){ .image_auroc = image_auroc / 100.0, .aupro = NAN, .aupro_strips = aupro / 100.0, .train_s = 1.0, .eval_s = 2.0 };
    }
}

static void expect(const adze_text *t, const char *line)
{
    if (!t->s || !strstr(t->s, line)) { print_message("%s\n", t->s ? t->s : ""); fail_msg("no line %s", line); };
}

/* Means and population deviations as printed (specs: the row of means has averages of both; SimpleNet's AUPRO 69.8);
 * between the unrounded means of AUPRO the deviation is 5.96. */
static void the_papers_cells_give_the_papers_spreads(void **state)
{
    (void)state;
    table4_score s[C * M];
    paper(s);
    table4 t = { .data = "MIRAD", .method = methods, .class_name = classes, .n_methods = M, .n_classes = C, .score = s };
    adze_text out = ADZE_TEXT_EMPTY;
    assert_int_equal(table4_markdown(&t, &out), ADZE_OK);
    expect(&out, "| building\\_block | 83.0 / 69.8 | 86.5 / 78.1 | 86.1 / 73.8 | 88.0 / 62.7 | 89.6 / 87.7 | 86.6 ± 2.2 / 74.4 ± 8.4 |\n");
    expect(&out, "| 75.8 ± 6.4 / 67.4 ± 13.3 |\n");
    expect(&out, "| 56.2 ± 3.3 / 67.8 ± 10.1 |\n");
    expect(&out, "| **mean** | 71.1 / 74.4 | 75.0 / 79.5 | 75.6 / 77.4 | 79.5 / 69.8 | 79.8 / 87.7 | 76.2 ± 4.3 / 77.8 ± 7.3 |\n");
    expect(&out, "Over the methods' means: I-AUROC 76.2 ± 3.2, AUPRO 77.8 ± 6.0.\n");
    expect(&out, "## The paper (MIRAD, Table 4)\n");
    expect(&out, "## Difference, ours less the paper's\n");
    expect(&out, "+0.0 ± 0.0");
    adze_text_destroy(&out);
}

static void missing_cells_are_left_out(void **state)
{
    (void)state;
    static const char *const names[] = { "a_b", "Rabbit Pendant" };
    table4_score s[4] = { { 0.5, 0.25, 0.25, 1.0, 1.0 }, { NAN, NAN, NAN, NAN, NAN }, { 0.7, 0.3, 0.5, 1.0, 1.0 }, { 0.9, 0.4, NAN, 1.0, 1.0 } };
    static const char *const two[] = { "rd", "tiny" };
    table4 t = { .data = "x", .method = two, .class_name = names, .n_methods = 2, .n_classes = 2, .score = s };
    adze_text out = ADZE_TEXT_EMPTY;
    assert_int_equal(table4_markdown(&t, &out), ADZE_OK);
    expect(&out, "| a\\_b | 50.0 / 25.0 | - / - | 50.0 ± 0.0 / 25.0 ± 0.0 |\n");
    expect(&out, "| Rabbit Pendant | 70.0 / 50.0 | 90.0 / - | 80.0 ± 10.0 / 50.0 ± 0.0 |\n");
    expect(&out, "| **mean** | 60.0 / 37.5 | 90.0 / - | 65.0 ± 5.0 / 37.5 ± 0.0 |\n");
    expect(&out, "| Rabbit Pendant | 56.1 / 78.3 | - / - | 56.1 ± 0.0 / 78.3 ± 0.0 |\n");
    expect(&out, "| Rabbit Pendant | +13.9 / -28.3 | - / - |");
    adze_text_destroy(&out);
    out = ADZE_TEXT_EMPTY;
    assert_int_equal(table4_csv(&t, &out), ADZE_OK);
    expect(&out, "\na_b,tiny,,,,,,,\n");
    expect(&out, "\nRabbit Pendant,rd,0.7,0.3,0.5,1,1,0.561,0.783\n");
    adze_text_destroy(&out);
    t.n_classes = 1;
    out = ADZE_TEXT_EMPTY;
    assert_int_equal(table4_markdown(&t, &out), ADZE_OK);
    assert_null(strstr(out.s, "paper"));
    adze_text_destroy(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_papers_cells_give_the_papers_spreads),
        cmocka_unit_test(missing_cells_are_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
