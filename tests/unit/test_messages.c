/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: every message can be found under its id, is complete in both languages, and its id says its
 * severity and chapter. Method: the whole table, entry by entry; look-ups as people type them, and
 * what must not be found.
 */
#include "unit.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "replicator/messages/messages.h"

static void check_words(const struct hk_msg_info *m, const struct hk_msg_words *w)
{
    const char *const all[] = {w->text, w->cause, w->system, w->operator};

    for (size_t i = 0; i < 4; i++) {
        if (!all[i] || strlen(all[i]) < 3)
            fail_msg("%s: field %zu is empty", m->id, i);
        if (strpbrk(all[i], "\n\t"))
            fail_msg("%s: field %zu has a line break or a tab", m->id, i);
    }
    if (strchr(w->text, '%')) /* it is filled in by name, never printf's way */
        fail_msg("%s: the text has a format sign", m->id);
}

static bool has_japanese(const char *s)
{
    /* Hiragana, katakana and the common kanji all begin with E3 to E9 in UTF-8. */
    for (; *s; s++)
        if ((unsigned char)*s >= 0xe3 && (unsigned char)*s <= 0xe9)
            return true;
    return false;
}

static void test_complete(void **state)
{
    for (unsigned i = 0; i < HK_MSG_COUNT; i++) {
        const struct hk_msg_info *m = hk_msg_get((enum hk_msg)i);

        check_words(m, &m->en);
        check_words(m, &m->ja);
        if (has_japanese(m->en.cause) || !has_japanese(m->ja.cause) ||
            !has_japanese(m->ja.system) || !has_japanese(m->ja.operator))
            fail_msg("%s: the languages are mixed up", m->id);
        assert_int_equal(m->severity, m->id[7]);
    }
    assert_true(HK_MSG_COUNT >= 60);
}

static void test_ids(void **state)
{
    const char *before = "";

    for (unsigned i = 0; i < HK_MSG_COUNT; i++) {
        const char *id = hk_msg_get((enum hk_msg)i)->id;

        assert_int_equal(strlen(id), 8);
        assert_memory_equal(id, "HKE", 3);
        assert_int_equal(strspn(id + 3, "0123456789"), 4);
        assert_true(id[3] >= '1' && id[3] <= '8');
        assert_non_null(strchr("IWE", id[7]));
        /* Ascending by number: unique even without the letter. */
        if (strncmp(before, id, 7) >= 0)
            fail_msg("%s stands after %s", id, before);
        before = id;
    }
    assert_string_equal(hk_msg_get(HKE2041E)->id, "HKE2041E");
}

/* The set of {names} in a text, as a string, sorted by first appearance in `of`. */
static bool same_names(const char *a, const char *b)
{
    char name[64];
    const char *open, *close;

    for (open = strchr(a, '{'); open; open = strchr(close, '{')) {
        close = strchr(open, '}');
        if (!close || (size_t)(close - open) + 2 > sizeof(name))
            return false;
        snprintf(name, sizeof(name), "%.*s", (int)(close - open + 1), open);
        if (!strstr(b, name))
            return false;
    }
    return true;
}

static void test_same_names_in_both_languages(void **state)
{
    for (unsigned i = 0; i < HK_MSG_COUNT; i++) {
        const struct hk_msg_info *m = hk_msg_get((enum hk_msg)i);

        if (!same_names(m->en.text, m->ja.text) || !same_names(m->ja.text, m->en.text))
            fail_msg("%s: the texts do not have the same {names}", m->id);
    }
    assert_false(same_names("{a} and {b}", "{a}"));
    assert_false(same_names("{a", "{a"));
}

static void test_find_every_spelling(void **state)
{
    static const struct {
        unsigned from, bytes;
    } part[] = {{0, 8}, {0, 7}, {3, 5}, {3, 4}};

    for (unsigned i = 0; i < HK_MSG_COUNT; i++) {
        const char *id = hk_msg_get((enum hk_msg)i)->id;

        for (size_t p = 0; p < 4; p++) {
            enum hk_msg found = HK_MSG_COUNT;
            char typed[9];

            snprintf(typed, sizeof(typed), "%.*s", (int)part[p].bytes, id + part[p].from);
            assert_int_equal(hk_msg_find(typed, &found), 0);
            assert_int_equal(found, i);
        }
    }
}

static void test_find_refuses(void **state)
{
    static const char *const bad[] = {"",         "HKE",       "HKE204",    "HKE20411",
                                      "HKE2041X", "HKE2041EE", " HKE2041E", "HKE 2041",
                                      "XYZ2041E", "HKE-041E",  "20a1"};
    enum hk_msg found = HKE1001E;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (hk_msg_find(bad[i], &found) != -EINVAL)
            fail_msg("\"%s\" is taken for an id", bad[i]);
    assert_int_equal(hk_msg_find("HKE0000E", &found), -ENOENT);
    assert_int_equal(hk_msg_find("HKE9999", &found), -ENOENT);
    assert_int_equal(hk_msg_find("HKE2041W", &found), -ENOENT); /* it is an error */
    assert_int_equal(found, HKE1001E);                          /* untouched on failure */
    assert_int_equal(hk_msg_find("hke2041e", &found), 0);
    assert_int_equal(found, HKE2041E);
}

static void test_severity_words(void **state)
{
    assert_string_equal(hk_msg_severity_text(HK_MSG_INFORMATION), "information");
    assert_string_equal(hk_msg_severity_text(HK_MSG_WARNING), "warning");
    assert_string_equal(hk_msg_severity_text(HK_MSG_ERROR), "error");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_complete),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_same_names_in_both_languages),
        cmocka_unit_test(test_find_every_spelling),
        cmocka_unit_test(test_find_refuses),
        cmocka_unit_test(test_severity_words),
    };

    return cmocka_run_group_tests_name("messages", tests, NULL, NULL);
}
