/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration: a sound pair of files is read as meant; each kind of mistake is answered with its
 * message id, the line it stands in and the key. The mistakes are made one by one in sound files.
 */
#include "tests/unit/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "replicator/daemon/config/config.h"

static const char good_group[] =
    "name = \"core\";\n"
    "group-id = \"11111111-2222-3333-4444-555555555555\";\n"
    "mode = \"sync\";\n"
    "on-link-loss = \"block\";\n"
    "contact-timeout-ms = 2000;\n"
    "lab-unencrypted = true;\n"
    "volumes = ( { name = \"data\"; size = 16777216L; }, { name = \"wal\"; size = 8192; } );\n"
    "sites = (\n"
    " { name = \"tokyo\"; site-id = \"11111111-2222-3333-4444-555555555551\";\n"
    "   control = \"127.0.0.1:7700\"; paths = ( \"127.0.0.1:7701\" ); },\n"
    " { name = \"osaka\"; site-id = \"11111111-2222-3333-4444-555555555552\";\n"
    "   control = \"127.0.0.2:7700\"; paths = ( \"127.0.0.2:7701\" ); } );\n";

static const char good_site[] =
    "site = \"osaka\";\n"
    "role = \"standby\";\n"
    "socket = \"/run/o.sock\";\n"
    "state-dir = \"/var/lib/o\";\n"
    "standby = { metadata = \"/m\"; primary-metadata = \"/p\"; journal = \"/j\";\n"
    "  journal-mib = 256; window-mib = 16;\n"
    "  replicas = ( { volume = \"wal\"; path = \"/w\"; }, { volume = \"data\"; path = \"/d\"; } ); "
    "};\n"
    "link = { backend = \"udp\"; mtu = 9000; impair = { loss-ppm = 10; }; };\n";

static char dir[] = "/tmp/hk-config-XXXXXX";
static struct hk_group_conf group;
static struct hk_local_conf local;
static char error[HK_CONFIG_ERROR_BYTES];

static const char *write_file(const char *name, const char *text)
{
    static char path[2][64];
    static int turn;
    char *p = path[turn ^= 1];
    FILE *f;

    snprintf(p, sizeof(path[0]), "%s/%s", dir, name);
    f = fopen(p, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    return p;
}

/* text with the first `from` replaced by `to`. */
static char *change(const char *text, const char *from, const char *to)
{
    static char out[4096];
    const char *at = strstr(text, from);

    assert_non_null(at);
    snprintf(out, sizeof(out), "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return out;
}

static void reads_what_is_meant(void **state)
{
    assert_int_equal(hk_group_conf_read(write_file("g", good_group), &group, error), 0);
    assert_string_equal(group.name, "core");
    assert_int_equal(group.mode, HK_MODE_SYNC);
    assert_int_equal(group.on_link_loss, HK_LINK_LOSS_BLOCK);
    assert_true(group.contact_timeout_ns == 2000000000u);
    assert_true(group.pace_bound_ns == HK_PACE_BOUND_NS_DEFAULT);
    assert_int_equal(group.region_shift, HK_REGION_SHIFT_DEFAULT);
    assert_int_equal(group.volume_count, 2);
    assert_true(group.volume[1].bytes == 8192);
    assert_int_equal(hk_local_conf_read(write_file("s", good_site), &group, &local, error), 0);
    assert_int_equal(local.site_index, 1);
    assert_int_equal(local.peer_index, 0);
    assert_false(local.primary);
    assert_string_equal(local.standby.replica[0], "/d");
    assert_string_equal(local.standby.replica[1], "/w");
    assert_true(local.standby.window_bytes == 16 << 20);
    assert_int_equal(local.link.mtu, 9000);
    assert_int_equal(local.link.loss_ppm, 10);
}

/* The hash compares the meaning: spacing and comments do not count, values do. */
static void hash_is_over_meaning(void **state)
{
    uint64_t hash;

    assert_int_equal(hk_group_conf_read(write_file("g", good_group), &group, error), 0);
    hash = group.hash;
    assert_int_equal(hk_group_conf_read(write_file("g", change(good_group, "mode =",
                                                               "/* why */ version = 1; mode   =")),
                                        &group, error),
                     0);
    assert_true(group.hash == hash);
    assert_int_equal(
        hk_group_conf_read(write_file("g", change(good_group, "8192", "12288")), &group, error), 0);
    assert_false(group.hash == hash);
    /* How a primary divides its volumes is nobody else's business. */
    assert_int_equal(hk_group_conf_read(write_file("g", change(good_group, "lab-un",
                                                               "region-bytes = 65536; lab-un")),
                                        &group, error),
                     0);
    assert_int_equal(group.region_shift, 16);
    assert_true(group.hash == hash);
    assert_int_equal(hk_group_conf_read(
                         write_file("g", change(good_group, "lab-un", "region-bytes = 0; lab-un")),
                         &group, error),
                     0);
    assert_int_equal(group.region_shift, 0);
    /* What happens at a full ring is the group's; saying what is meant anyway changes nothing. */
    assert_int_equal(group.on_overflow, HK_OVERFLOW_PACE);
    assert_int_equal(hk_group_conf_read(write_file("g", change(good_group, "lab-un",
                                                               "on-overflow = \"pace\"; lab-un")),
                                        &group, error),
                     0);
    assert_true(group.hash == hash);
    assert_int_equal(hk_group_conf_read(write_file("g", change(good_group, "lab-un",
                                                               "on-overflow = \"block\"; lab-un")),
                                        &group, error),
                     0);
    assert_int_equal(group.on_overflow, HK_OVERFLOW_BLOCK);
    assert_false(group.hash == hash);
}

struct mistake {
    const char *from, *to, *id;
    int line;
    const char *key;
};

static const struct mistake group_mistakes[] = {
    {"mode = \"sync\";", "mode = \"snyc\";", "HKE1005E", 3, "mode"},
    {"mode = \"sync\";", "mode = 3;", "HKE1004E", 3, "mode"},
    {"mode = \"sync\";\n", "", "HKE1003E", 0, "mode"},
    {"mode = \"sync\";", "mode = ;", "HKE1002E", 3, ""},
    {"name = \"core\"", "nmae = \"core\"", "HKE1006E", 1, "nmae"},
    {"name = \"core\"", "name = \"co re\"", "HKE1005E", 1, "name"},
    {"11111111-2222-3333-4444-555555555555", "11111111-2222", "HKE1005E", 2, "group-id"},
    {"2000", "5", "HKE1005E", 5, "contact-timeout-ms"},
    {"2000", "\"2000\"", "HKE1004E", 5, "contact-timeout-ms"},
    {"lab-un", "on-overflow = \"behind\"; lab-un", "HKE1014E", 6, "on-overflow"},
    {"lab-un", "on-overflow = \"behnd\"; lab-un", "HKE1005E", 6, "on-overflow"},
    {"lab-un", "on-overflow = 1; lab-un", "HKE1004E", 6, "on-overflow"},
    {"lab-un", "region-bytes = 12288; lab-un", "HKE1005E", 6, "region-bytes"},
    {"lab-un", "region-bytes = 2048; lab-un", "HKE1005E", 6, "region-bytes"},
    {"lab-un", "region-bytes = 2147483648L; lab-un", "HKE1005E", 6, "region-bytes"},
    {"true", "\"yes\"", "HKE1004E", 6, "lab-unencrypted"},
    {"true", "false", "HKE1009E", 0, "lab-unencrypted"},
    {"8192", "8191", "HKE1005E", 7, "size"},
    {"\"wal\"", "\"data\"", "HKE1007E", 7, "name"},
    {"127.0.0.2:7700", "127.0.0.2", "HKE1005E", 12, "control"},
    {"127.0.0.2:7701", "host:7701", "HKE1005E", 12, "paths"},
    {"555555555552", "555555555551", "HKE1007E", 8, "sites"},
    {"( \"127.0.0.1:7701\" )", "( \"127.0.0.1:7701\", \"127.0.0.1:7702\" )", "HKE1008E", 8,
     "paths"},
};

static const struct mistake site_mistakes[] = {
    {"\"osaka\"", "\"nagoya\"", "HKE1005E", 1, "site"},
    {"\"standby\"", "\"primary\"", "HKE1003E", 0, "capture"},
    {"{ volume = \"wal\"; path = \"/w\"; }, ", "", "HKE1003E", 7, "replicas"},
    {"volume = \"wal\"", "volume = \"wax\"", "HKE1005E", 7, "volume"},
    {"volume = \"wal\"", "volume = \"data\"", "HKE1007E", 7, "volume"},
    {"window-mib = 16", "window-mib = 17", "HKE1005E", 5, "window-mib"},
    {"journal-mib = 256", "journal-mib = 64", "HKE1008E", 5, "journal-mib"},
    {"\"udp\"", "\"tcp\"", "HKE1005E", 8, "backend"},
    {"\"udp\"", "\"dpdk\"", "HKE1008E", 8, "interfaces"},
    {"loss-ppm", "loss", "HKE1006E", 8, "loss"},
    {"mtu = 9000", "mtu = 90000", "HKE1005E", 8, "mtu"},
};

static void named_precisely(const struct mistake *m, const char *path)
{
    char expected[128];

    if (strncmp(error, m->id, 8))
        fail_msg("expected %s for \"%s\", got: %s", m->id, m->to, error);
    if (m->line) {
        snprintf(expected, sizeof(expected), "%s:%d:", path, m->line);
        if (!strstr(error, expected))
            fail_msg("expected %s in: %s", expected, error);
    }
    if (!strstr(error, m->key))
        fail_msg("expected the key %s in: %s", m->key, error);
}

static void every_mistake_is_named(void **state)
{
    const char *path;
    size_t i;

    for (i = 0; i < HK_ARRAY_SIZE(group_mistakes); i++) {
        memset(&group, 0x5a, sizeof(group));
        path = write_file("g", change(good_group, group_mistakes[i].from, group_mistakes[i].to));
        assert_int_equal(hk_group_conf_read(path, &group, error), 1);
        named_precisely(&group_mistakes[i], path);
        assert_int_equal((unsigned char)group.name[0], 0x5a); /* untouched */
    }
    assert_int_equal(hk_group_conf_read(write_file("g", good_group), &group, error), 0);
    for (i = 0; i < HK_ARRAY_SIZE(site_mistakes); i++) {
        path = write_file("s", change(good_site, site_mistakes[i].from, site_mistakes[i].to));
        assert_int_equal(hk_local_conf_read(path, &group, &local, error), 1);
        named_precisely(&site_mistakes[i], path);
    }
    assert_int_equal(hk_group_conf_read("/nonexistent/x", &group, error), 1);
    assert_memory_equal(error, "HKE1001E", 8);
}

static void spool_is_optional(void **state)
{
    static const char with[] = "spool = { directory = \"/s\"; segments = 7; segment-mib = 16; };\n";
    static char text[4096];

    assert_int_equal(hk_group_conf_read(write_file("g", good_group), &group, error), 0);
    assert_int_equal(hk_local_conf_read(write_file("s", good_site), &group, &local, error), 0);
    assert_false(local.spool.present);
    snprintf(text, sizeof(text), "%s%s", good_site, with);
    assert_int_equal(hk_local_conf_read(write_file("s", text), &group, &local, error), 0);
    assert_true(local.spool.present && local.spool.segments == 7);
    assert_int_equal(local.spool.segment_bytes, 16 << 20);
    assert_string_equal(local.spool.directory, "/s");
    /* In the journal's directory each would take the other's files for its own. */
    snprintf(text, sizeof(text), "%sspool = { directory = \"/j\"; };\n", good_site);
    assert_int_equal(hk_local_conf_read(write_file("s", text), &group, &local, error), 1);
    assert_memory_equal(error, "HKE1008E", 8);
    snprintf(text, sizeof(text), "%sspool = { directory = \"/s\"; segments = 1; };\n", good_site);
    assert_int_equal(hk_local_conf_read(write_file("s", text), &group, &local, error), 1);
    assert_memory_equal(error, "HKE1005E", 8);
}

static void splits_addresses(void **state)
{
    char host[HK_ADDRESS_BYTES];
    uint16_t port;

    assert_int_equal(hk_address_split("10.0.0.1:65535", host, sizeof(host), &port), 0);
    assert_string_equal(host, "10.0.0.1");
    assert_int_equal(port, 65535);
    assert_int_not_equal(hk_address_split("10.0.0.1:65536", host, sizeof(host), &port), 0);
    assert_int_not_equal(hk_address_split("10.0.0.1:", host, sizeof(host), &port), 0);
    assert_int_not_equal(hk_address_split("10.0.0.1:0", host, sizeof(host), &port), 0);
    assert_int_not_equal(hk_address_split("10.0.0.1:80x", host, sizeof(host), &port), 0);
    assert_int_not_equal(hk_address_split(":80", host, sizeof(host), &port), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_is_meant),    cmocka_unit_test(hash_is_over_meaning),
        cmocka_unit_test(every_mistake_is_named), cmocka_unit_test(spool_is_optional),
        cmocka_unit_test(splits_addresses),
    };
    char command[64];
    int r;

    if (!mkdtemp(dir))
        return 1;
    r = cmocka_run_group_tests(tests, NULL, NULL);
    snprintf(command, sizeof(command), "rm -r %s", dir);
    return system(command) || r;
}
