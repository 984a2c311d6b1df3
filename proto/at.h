/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Named steps of capturing a write, at which a test may switch to another thread, wait, or kill the
 * process (tests/TESTING.md, "Races"). HK_AT(name) is nothing unless the file is compiled with
 * -DHK_AT_HOOK; a product build never is, so it costs nothing. Each name says what has happened
 * last and, where it matters, what has not happened yet.
 */
#ifndef HK_PROTO_AT_H
#define HK_PROTO_AT_H

#define HK_AT_STEPS(X)                                                                           \
    X(reserving)      /* an LSN is chosen, nothing is stored */                                  \
    X(described)      /* side and header fields are stored, head is not */                       \
    X(reserved)       /* head is stored, the informational words are not */                      \
    X(copying)        /* the slot is the caller's, nothing is copied */                          \
    X(copied)         /* the payload is copied, not hashed */                                    \
    X(hashed)         /* both hashes are known, nothing is stored */                             \
    X(headed)         /* bytes 8-63 are stored, lsn is not */                                    \
    X(published)      /* lsn is stored, nobody was woken */                                      \
    X(submitting)     /* about to touch the origin */                                            \
    X(written)        /* the origin's operation ended, done is not stored */                     \
    X(done)           /* done is stored */                                                       \
    X(freeing)        /* slots are free, tail is not stored */                                   \
    X(freed)          /* tail is stored */                                                       \
    X(acking)         /* a report's acked is stored, durable and released are not */             \
    X(acked)          /* all three are stored */                                                 \
    X(completing)     /* the request is over, the client was not told */                         \
    X(meta_writing)   /* a superblock is about to be written */                                  \
    X(meta_written)   /* it is written, not flushed */                                           \
    X(meta_flushed)   /* it is durable, nobody knows */                                          \
    X(meta_known)     /* the ring says so, the core does not act on it yet */                    \
    X(ring_formatted) /* a new ring stands beside the old one's name */                          \
    X(ring_aside)     /* the old one is renamed away, the new one not yet in place */            \
    X(ring_placed)    /* the new ring is in place, its producer page is empty */                 \
    X(voiding)        /* an unpublished slot's content is gone, it is still unpublished */       \
    X(voided)         /* it is a published void, done is not stored */                           \
    X(taken_over)     /* the producer page is written but for the ordinal that makes it valid */ \
    X(redoing)        /* a record is about to be written to its origin again */                  \
    X(redone)         /* it was, done is not stored */

enum hk_at {
#define HK_AT_ENUM(name) HK_AT_##name,
    HK_AT_STEPS(HK_AT_ENUM)
#undef HK_AT_ENUM
        HK_AT_STEP_COUNT
};

#ifdef HK_AT_HOOK
void hk_at(enum hk_at step); /* the test's */
#define HK_AT(name) hk_at(HK_AT_##name)
#else
#define HK_AT(name) ((void)0)
#endif

#endif
