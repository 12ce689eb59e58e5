/* config_compare.h - what two configurations, JSON objects, differ in. */
#ifndef ADZE_TRAIN_CONFIG_COMPARE_H
#define ADZE_TRAIN_CONFIG_COMPARE_H

#include "core/status.h"
#include "core/text.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ADZE_OK if `text` is a JSON object without doubled keys; else `code`, with `whose` before the message. */
adze_status adze_config_check(const char *text, adze_status code, const char *whose);
/* Appends "key = a, now b; ..." for every key that differs; nothing if none does. ADZE_EINPUT: `stored`, which is from the file
 * `whose`, is no JSON object; ADZE_EINVAL: `now` is none; ADZE_ENOMEM. */
adze_status adze_config_compare(const char *whose, const char *stored, const char *now, adze_text *list);

#ifdef __cplusplus
}
#endif
#endif
