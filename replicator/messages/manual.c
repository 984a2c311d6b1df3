/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes the message manual to standard output: `hk_messages_manual {scd|md} {en|ja}`. scd is the
 * source of the manual page hikae-messages(7), md is for reading elsewhere. Runs at build time.
 */
#include "replicator/messages/messages.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct labels {
    const char *title, *intro, *severity, *cause, *system, *operator, * chapter[9];
};

static const struct labels english = {
    .title = "Messages of Hikae",
    .intro =
        "Every message has an id that never changes its meaning. Its last letter is the severity: "
        "I information, W warning, E error. {Braces} stand for what is filled in.",
    .severity = "Severity",
    .cause = "Cause",
    .system = "System action",
    .operator= "Operator action",
    .chapter = {"", "Configuration and command line", "Link and session", "Capture, primary",
                "Journal, store, standby", "Freezes and images", "Failover and promotion",
                "Bad input", "The daemon itself"},
};

static const struct labels japanese = {
    .title = "Hikae メッセージ一覧",
    .intro = "各メッセージの ID の意味は変わりません。最後の文字は重大度を表します: "
             "I 情報、W 警告、E エラー。{ } の部分には実際の値が入ります。",
    .severity = "重大度",
    .cause = "原因",
    .system = "システムの動作",
    .operator= "運用担当者の対応",
    .chapter = {"", "設定とコマンド行", "回線とセッション", "取り込み (プライマリー)",
                "ジャーナルとストア (スタンバイ)", "フリーズとイメージ", "フェイルオーバーと昇格",
                "不正な入力", "デーモン自体"},
};

static const char *severity_word(enum hk_msg_severity severity, bool ja)
{
    if (!ja)
        return hk_msg_severity_text(severity);
    return severity == HK_MSG_ERROR ? "エラー" : severity == HK_MSG_WARNING ? "警告" : "情報";
}

/* Both formats take a backslash before any of their own signs. */
static void put(const char *s)
{
    for (; *s; s++) {
        if (strchr("*_`\\#<>", *s))
            putchar('\\');
        putchar(*s);
    }
}

static void put_item(bool scd, const char *label, const char *words)
{
    printf(scd ? "\t*%s*: " : "- **%s**: ", label);
    put(words);
    puts(scd ? "\n" : "");
}

static void put_message(const struct hk_msg_info *m, const struct labels *l, bool scd, bool ja)
{
    const struct hk_msg_words *w = ja ? &m->ja : &m->en;

    printf(scd ? "*%s* " : "### %s\n\n", m->id);
    put(w->text);
    puts("\n");
    put_item(scd, l->severity, severity_word(m->severity, ja));
    put_item(scd, l->cause, w->cause);
    put_item(scd, l->system, w->system);
    put_item(scd, l->operator, w->operator);
    if (!scd)
        putchar('\n');
}

int main(int argc, char **argv)
{
    char chapter = '0';
    bool scd, ja;

    if (argc != 3 || (strcmp(argv[1], "scd") && strcmp(argv[1], "md")) ||
        (strcmp(argv[2], "en") && strcmp(argv[2], "ja"))) {
        fprintf(stderr, "usage: %s {scd|md} {en|ja}\n", argv[0]);
        return 1;
    }
    scd = !strcmp(argv[1], "scd");
    ja = !strcmp(argv[2], "ja");
    const struct labels *l = ja ? &japanese : &english;

    if (scd)
        printf("hikae-messages(7) \"\" \"Hikae\"\n\n# NAME\n\nhikae-messages - %s\n\n# "
               "DESCRIPTION\n\n",
               l->title);
    else
        printf("# %s\n\n", l->title);
    put(l->intro);
    puts("\n");
    for (unsigned i = 0; i < HK_MSG_COUNT; i++) {
        const struct hk_msg_info *m = hk_msg_get((enum hk_msg)i);

        if (m->id[3] != chapter) {
            chapter = m->id[3];
            printf("%s %s\n\n", scd ? "#" : "##", l->chapter[chapter - '0']);
        }
        put_message(m, l, scd, ja);
    }
    return fflush(stdout) || ferror(stdout) ? 1 : 0;
}
