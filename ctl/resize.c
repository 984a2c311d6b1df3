/* SPDX-License-Identifier: Apache-2.0 */
/* hikae resize: a volume grows, the replica first. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/ctl.h"

/* "1073741824", "512M", "20G", "2T": bytes. */
static bool size_of(const char *text, uint64_t *ret)
{
    char *end;
    uint64_t n = strtoull(text, &end, 10);
    unsigned shift = *end == 'k' || *end == 'K' ? 10
                     : *end == 'M'              ? 20
                     : *end == 'G'              ? 30
                     : *end == 'T'              ? 40
                                                : 0;

    if (end == text || *text == '-' || (*end && (!shift || end[1])) || n == 0 ||
        n > (1ULL << 50) >> shift)
        return false;
    *ret = n << shift;
    return true;
}

int hk_verb_resize(const struct hk_options *o)
{
    Hk__Pb__Reply *reply;
    Hk__Pb__Request r;
    char name[HK_NAME_BYTES], size[24];
    int exit_code;

    hk_request_fill(o, "resize", &r);
    r.volume = o->argv[0];
    if (!size_of(o->argv[1], &r.limit))
        return hk_complain(HK_EXIT_FAILED,
                           "HKE1030E \"%s\" is no size; expected bytes, or a number with k, M, G "
                           "or T behind it (1024 each)",
                           o->argv[1]);
    /* A plan is for this size; events name both. */
    snprintf(name, sizeof(name), "%.40s:%" PRIu64, r.volume, r.limit);
    r.name = name;
    exit_code = hk_ask(o, &r, &reply, NULL);
    if (exit_code)
        return exit_code;
    if (!hk_print_plan(o, reply)) {
        if (o->json)
            hk_print_json(json_pack("{s:i, s:s, s:I}", "schema", 1, "volume", r.volume, "bytes",
                                    (json_int_t)r.limit));
        else
            printf("volume %s has %s; clients see it when they connect again\n", r.volume,
                   hk_bytes_text(r.limit, size));
    }
    hk_rpc_free(&reply->base);
    return HK_EXIT_DONE;
}
