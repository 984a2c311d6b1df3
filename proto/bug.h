/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Seeded bugs: HK_BUG(name) is 0 unless the file is compiled with -DHK_BUG_name=1. The simulator is
 * linked against libraries with one such bug each, and must notice every one of them
 * (tests/TESTING.md, "Seeded bugs"). A product build never defines any: it costs nothing.
 */
#ifndef HK_PROTO_BUG_H
#define HK_PROTO_BUG_H

#define HK_BUG_ARG_1                        0,
#define HK_BUG_SECOND(ignored, second, ...) second
#define HK_BUG_PICK(one_or_junk)            HK_BUG_SECOND(one_or_junk 1, 0, 0)
#define HK_BUG_JOIN(value)                  HK_BUG_PICK(HK_BUG_ARG_##value)
#define HK_BUG_VALUE(value)                 HK_BUG_JOIN(value)
#define HK_BUG(name)                        HK_BUG_VALUE(HK_BUG_##name)

#endif
