/* reader_visa.c - VisA by its split CSV: object,split,label,image,mask. Entry: adze_read_visa(). */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/file.h"
#include "core/memory.h"
#include "datasets/dataset_build.h"

enum { MAX_CSV_BYTES = 1 << 28, N_FIELDS = 5 };

static const char header[] = "object,split,label,image,mask";

/* Cuts one line (NUL-terminated, changed) into its five fields. */
static adze_status cut(char *line, const char *where, char *field[N_FIELDS])
{
    int n = 0;
    if (strchr(line, '"')) return adze_fail(ADZE_EINPUT, "%s: quoted fields are not part of this format", where);
    for (char *p = line; p; n++) {
        char *comma = strchr(p, ',');
        if (comma) *comma++ = 0;
        if (n < N_FIELDS) field[n] = p;
        p = comma;
    }
    if (n != N_FIELDS) return adze_fail(ADZE_EINPUT, "%s: %d fields, want %d (%s)", where, n, N_FIELDS, header);
    return ADZE_OK;
}

static adze_status read_line(adze_dataset *ds, char *line, const char *where)
{
    adze_status st = ADZE_OK;
    char *field[N_FIELDS];
    const char *name, *image, *mask = NULL;
    TRY(cut(line, where, field));
    TRY(adze_ds_foreign_path(ds, field[0], where, &name));
    REQUIRE(!strchr(name, '/'), ADZE_EINPUT, "%s: object '%.100s' holds a slash", where, name);
    bool train = strcmp(field[1], "train") == 0, bad = strcmp(field[2], "anomaly") == 0;
    REQUIRE(train || strcmp(field[1], "test") == 0, ADZE_EINPUT, "%s: split '%.100s', want train or test", where, field[1]);
    REQUIRE(bad || strcmp(field[2], "normal") == 0, ADZE_EINPUT, "%s: label '%.100s', want normal or anomaly", where, field[2]);
    TRY(adze_ds_foreign_path(ds, field[3], where, &image));
    if (*field[4]) TRY(adze_ds_foreign_path(ds, field[4], where, &mask));
    TRY(adze_ds_add(ds, name, train ? ADZE_SPLIT_TRAIN : ADZE_SPLIT_TEST, bad ? ADZE_LABEL_BAD : ADZE_LABEL_GOOD,
                    bad ? "bad" : "good", image, bad ? mask : NULL));
    if (bad && !mask) TRY(adze_ds_problem(ds, true, name, image, "a defective picture without a mask in %s", where));
done:
    return st;
}

adze_status adze_read_visa(adze_dataset *ds, const char *split_csv)
{
    adze_status st = ADZE_OK;
    unsigned char *data = NULL;
    size_t n_bytes;
    const char *name = split_csv ? split_csv : "1cls.csv", *path = adze_ds_text(ds, "split_csv/%s", name);
    REQUIRE(path, ADZE_ENOMEM, "data set: no memory for a path");
    path = strchr(name, '/') ? name : adze_ds_full(ds, path);
    REQUIRE(path, ADZE_ENOMEM, "data set: no memory for a path");
    TRY(adze_file_read(path, MAX_CSV_BYTES, &data, &n_bytes));
    REQUIRE(memchr(data, 0, n_bytes) == NULL, ADZE_EINPUT, "%s: not a text file", path);
    int64_t number = 0;
    for (char *line = (char *)data; line && *line;) {
        char *next = strchr(line, '\n'), where[4200];
        if (next) *next++ = 0;
        size_t n = strlen(line);
        if (n > 0 && line[n - 1] == '\r') line[n - 1] = 0;
        snprintf(where, sizeof where, "%.4000s line %" PRId64, path, ++number);
        if (number == 1)
            REQUIRE(strcmp(line, header) == 0, ADZE_EINPUT, "%s: '%.100s', want the header '%s'", where, line, header);
        else if (*line) TRY(read_line(ds, line, where));
        line = next;
    }
    REQUIRE(number > 1, ADZE_EINPUT, "%s: no rows", path);
done:
    adze_free(data);
    return st;
}
