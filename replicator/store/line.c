/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/store/line.h"

uint64_t hk_line_epoch_end(const struct hk_history *h, uint32_t index)
{
    HK_ASSERT(index < h->count);
    return index + 1 < h->count ? h->epoch[index + 1].parent_end : UINT64_MAX;
}

int hk_line_seek(const struct hk_history *h, uint64_t lsn, uint64_t *ret_lsn)
{
    uint32_t i = 0;

    HK_ASSERT(h->count <= HK_HISTORY_EPOCHS_MAX);
    if (h->count == 0)
        return -1;
    lsn = hk_max_u64(lsn, h->epoch[0].first_lsn);
    /* An epoch that ended without a byte is passed over, too. */
    while (lsn >= hk_line_epoch_end(h, i)) {
        i++;
        lsn = hk_max_u64(lsn, h->epoch[i].first_lsn);
    }
    *ret_lsn = lsn;
    return (int)i;
}
