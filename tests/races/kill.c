/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: wherever the capture process is killed, nothing acknowledged is lost and the two sides are
 * equal again after its successor's start.
 *
 * Method: a story is a row of lives over the same ring file, metadata and origins. Each but the
 * last is killed with SIGKILL at one named step (proto/at.h, and three system calls cut in half):
 * of one request of one kind, alone or with others in flight; of a report; of a superblock written
 * at the start, for the ceiling, for `degraded`, `full compare`, the peer or `clean`; of the making
 * of a ring; of a successor's own taking over. After each death and at the end is judged:
 *
 *   the ring     every record published once, whole, in one chain, below the durable ceiling; what
 *                was seen of it before stays (I3, I5, I7)
 *   the origin   each block as acknowledged last, or as it was to become (I7)
 *   the standby  acknowledged in mode sync: it has it, or the durable superblock says degraded or
 *                full compare required (I1, I9)
 *   clean        said only when both sides are equal (I12)
 *   in the end   origin, standby and what is served are equal, the superblock says clean
 *
 * Every step's deaths are printed; a step at which nothing died is a failure.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/races/standby.h"
#include "tests/races/verdict.h"

enum { NOT_AT_ALL = 0 }; /* a hit: the life stops cleanly */

static unsigned deaths[STEP_COUNT], stories;
static char story[256]; /* the one being told */
static uint64_t story_seed = 1;

static pid_t child;           /* the life that is lived; 0: none */
static struct life_site site; /* the story's; its ledger is NULL between stories */

/* Nothing stays behind, whatever the end. */
static void clean_up(void)
{
    if (child > 0) {
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    if (site.ledger && !getenv("HK_KILL_KEEP"))
        site_destroy(&site);
}

#define WANT(condition, what)                                        \
    CHECK(condition, "story %u, %s (seed %llu): %s", stories, story, \
          (unsigned long long)story_seed, what)

static void check_text(const char *wrong)
{
    WANT(!wrong, wrong);
}

/* ---- judging ---- */

static void read_super(const struct life_site *s, struct hk_super *ret)
{
    static uint8_t slots[2 * HK_SUPER_BYTES];
    int fd = open(s->conf.metadata, O_RDONLY | O_CLOEXEC);

    WANT(fd >= 0 && pread(fd, slots, sizeof(slots), 0) == sizeof(slots), "no metadata");
    close(fd);
    WANT(hk_super_pick(slots, slots + HK_SUPER_BYTES, ret, NULL) == 0, "no superblock is whole");
}

static void read_origin(const struct life_site *s, unsigned v, uint8_t *image)
{
    int fd = open(s->conf.volume[v].origin, O_RDONLY | O_CLOEXEC);

    WANT(fd >= 0 && pread(fd, image, VOLUME_BYTES, 0) == VOLUME_BYTES, "no origin");
    close(fd);
}

/* No LSN was given out above the durable ceiling. */
static void judge_ceiling(const struct life_site *s, const struct hk_super *super)
{
    uint8_t page[2 * HK_PAGE_BYTES] = {0};
    const struct hk_ring_producer *p = (const void *)(page + HK_PAGE_BYTES);
    int fd = open(s->conf.ring, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return;
    WANT(pread(fd, page, sizeof(page), 0) == sizeof(page), "no ring");
    close(fd);
    if (p->epoch_ordinal)
        WANT(p->next_lsn <= super->ceiling, "LSNs above the durable ceiling");
}

/* What was acknowledged is with the standby, or it is durably known that it may not be. */
static void judge_standby(const struct life_site *s, const struct standby *b,
                          const struct hk_super *super)
{
    if (super->flags & (HK_SF_DEGRADED | HK_SF_FULL_COMPARE))
        return;
    for (unsigned v = 0; v < VOLUMES; v++) {
        for (unsigned i = 0; i < BLOCKS; i++) {
            const struct block_ledger *e = &s->ledger->block[v][i];
            const uint8_t *block = b->image[v] + (size_t)i * BLOCK;

            WANT(block_is(block, e->acked) || (e->in_flight && block_is(block, e->flying)),
                 "the standby has not what was acknowledged");
        }
    }
    for (unsigned i = 1; i < VERSIONS; i++)
        WANT(!s->ledger->acked_version[i] || b->seen[i] == 1,
             "an acknowledged write has no record");
}

/* Of a dead or ended life. */
static void judge_death(const struct life_site *s, struct standby *b)
{
    static struct hk_super super;
    static uint8_t image[VOLUME_BYTES];

    read_super(s, &super);
    judge_ceiling(s, &super);
    judge_standby(s, b, &super);
    check_text(standby_part(b));
    judge_standby(s, b, &super);
    if (!(super.flags & HK_SF_CLEAN) || !b->lsn)
        return;
    WANT(super.clean_lsn == b->lsn, "clean, but the standby does not have everything");
    for (unsigned v = 0; v < VOLUMES; v++) {
        read_origin(s, v, image);
        WANT(memcmp(image, b->image[v], VOLUME_BYTES) == 0, "clean, but the sides differ");
    }
}

/* ---- living ---- */

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Returns how it ended, as waitpid has it. */
static int live(struct life_site *s, struct standby *b, const struct life_plan *plan)
{
    const struct timespec pause = {.tv_nsec = 50000};
    uint64_t until = now_ms() + 25000;
    bool met = false;
    int status;

    child = life_start(s, plan);
    WANT(child > 0, "no child");
    while (waitpid(child, &status, WNOHANG) == 0) {
        if (!met && __atomic_load_n(&s->ledger->serving, __ATOMIC_ACQUIRE)) {
            check_text(standby_meet(b));
            met = true;
        }
        if (met)
            check_text(standby_poll(b));
        nanosleep(&pause, NULL);
        WANT(now_ms() <= until, "a life hung");
    }
    child = 0;
    return status;
}

static const char *exit_text(int status)
{
    static char text[64];

    switch (WIFEXITED(status) ? WEXITSTATUS(status) : -1) {
    case 10:
    case 11: return "a successor did not start";
    case 12: return "what is served is not what was acknowledged";
    default:
        snprintf(text, sizeof(text), "a life ended by itself (status %#x)", status);
        return text;
    }
}

/* Until it is killed where the plan says. false: it never came there, and stopped. */
static bool die(struct life_site *s, struct standby *b, const struct life_plan *plan)
{
    bool struck;
    int status;

    b->mute = plan->mute;
    status = live(s, b, plan);
    struck = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    WANT(struck || (WIFEXITED(status) && WEXITSTATUS(status) == 0), exit_text(status));
    WANT(s->ledger->failed == 0, "a request failed");
    if (struck)
        deaths[plan->strike.step]++;
    judge_death(s, b);
    return struck;
}

/* Is it durably known, or with this ring to become known, that the sides may differ? */
static bool is_lost(const struct life_site *s, bool lose_ring)
{
    static struct hk_super super;

    read_super(s, &super);
    return super.flags & HK_SF_FULL_COMPARE || (lose_ring && !(super.flags & HK_SF_CLEAN));
}

/* The last life: takes over, serves, works, stops cleanly; then all is equal. */
static void epilogue(struct life_site *s, struct standby *b, bool lost)
{
    struct life_plan plan = {
        .strike = {.step = STEP_NONE}, .kind = WRITE, .warm_up = 6, .seed = story_seed ^ 0x5eed};
    static struct hk_super super;
    static uint8_t image[VOLUME_BYTES];

    read_super(s, &super);
    plan.settle = super.flags & HK_SF_DEGRADED;
    if (lost) /* whose writes wait for T, as nothing else does */
        plan.timeout_ms = 50;
    WANT(!die(s, b, &plan), "the last life was killed");
    read_super(s, &super);
    WANT(lost == ((super.flags & HK_SF_FULL_COMPARE) != 0),
         lost ? "full compare was forgotten" : "full compare is required for no reason");
    if (lost)
        return;
    WANT(super.flags & HK_SF_CLEAN, "the last life did not stop cleanly");
    WANT(!(super.flags & HK_SF_DEGRADED), "degraded for ever");
    for (unsigned v = 0; v < VOLUMES; v++) {
        read_origin(s, v, image);
        WANT(memcmp(image, b->image[v], VOLUME_BYTES) == 0, "the two sides differ in the end");
    }
}

/* A site of its own for each story; `lives` ends with a plan without a step. */
static void tell(const struct life_plan *lives, const char *name)
{
    static struct standby standby;
    const char *only = getenv("HK_KILL_STORY");
    bool lost = false;

    if (getenv("HK_KILL_TIMES"))
        printf("# %llu ms: %u %s\n", (unsigned long long)(now_ms() % 100000), stories, story);
    if (only && strtoul(only, NULL, 0) != stories + 1) {
        stories++;
        return;
    }
    site_make(&site);
    standby_make(&standby, &site);
    stories++;
    snprintf(story, sizeof(story), "%s", name);
    for (; lives->strike.step != STEP_NONE; lives++) {
        size_t at = strlen(story);

        snprintf(story + at, sizeof(story) - at, " / %s %u", step_name(lives->strike.step),
                 lives->strike.hit);
        WANT(die(&site, &standby, lives) || lives->strike.hit == NOT_AT_ALL, "it never came there");
        lost = lost || is_lost(&site, lives->lose_ring);
        if (lives->lose_ring && unlink(site.conf.ring))
            WANT(errno == ENOENT, "the ring cannot be lost");
    }
    epilogue(&site, &standby, lost);
    standby_free(&standby);
    site_destroy(&site);
}

/* ---- stories ---- */

static uint64_t next_seed(void)
{
    story_seed = story_seed * 6364136223846793005ull + 1442695040888963407ull;
    return story_seed >> 11;
}

static bool applies(int step, enum kind kind)
{
    bool payload = kind == WRITE || kind == WRITE_FUA;

    if (step == STEP_COPY_HALF)
        return payload;
    return step != STEP_ORIGIN_HALF || kind != FLUSH;
}

/* Each step of one request, of each kind, alone and with others in flight. */
static void requests(void)
{
    static const int steps[] = {HK_AT_reserving, HK_AT_described,  HK_AT_reserved,   HK_AT_copying,
                                STEP_COPY_HALF,  HK_AT_copied,     HK_AT_hashed,     HK_AT_headed,
                                HK_AT_published, HK_AT_submitting, STEP_ORIGIN_HALF, HK_AT_written,
                                HK_AT_done,      HK_AT_completing};

    for (unsigned i = 0; i < HK_ARRAY_SIZE(steps); i++) {
        for (unsigned k = 0; k < 2 * KINDS; k++) {
            struct life_plan lives[2] = {{.strike = {steps[i], 1, SUBJECT},
                                          .kind = (enum kind)(k / 2),
                                          .others = k % 2,
                                          .seed = next_seed()},
                                         {.strike = {.step = STEP_NONE}}};
            char name[64];

            if (!applies(steps[i], lives[0].kind))
                continue;
            lives[0].warm_up = (unsigned)(lives[0].seed % 24);
            snprintf(name, sizeof(name), "%s %s", kind_name[k / 2],
                     k % 2 ? "among others" : "alone");
            tell(lives, name);
        }
    }
}

/* Each step that frees slots or takes a report, and publications by any thread. */
static void reports(void)
{
    static const int steps[] = {HK_AT_freeing, HK_AT_freed, HK_AT_acking, HK_AT_acked};

    for (unsigned i = 0; i < HK_ARRAY_SIZE(steps); i++) {
        for (unsigned k = 0; k < 8; k++) {
            struct life_plan lives[2] = {{.strike = {steps[i], 1 + 3 * k, SERVING},
                                          .others = k % 2,
                                          .warm_up = 40,
                                          .seed = next_seed()},
                                         {.strike = {.step = STEP_NONE}}};

            tell(lives, k % 2 ? "report among others" : "report");
        }
    }
}

static const int meta_steps[] = {HK_AT_meta_writing, STEP_META_HALF, HK_AT_meta_written,
                                 HK_AT_meta_flushed, HK_AT_meta_known};

static void superblock_stories(int step)
{
    const struct life_plan end = {.strike = {.step = STEP_NONE}};
    const struct life_plan first = {.strike = {step, 1, ANYWHERE}};
    const struct life_plan peer = {.strike = {step, 1, SERVING}, .warm_up = 40};
    const struct life_plan stop = {.strike = {step, 1, STOPPING}, .warm_up = 4};
    struct life_plan ceiling = {.strike = {step, 1, SERVING},
                                .others = true,
                                .warm_up = 60,
                                .linger_ms = 2,
                                .ceiling_step = 64 << 10};
    struct life_plan alone = {.strike = {step, 1, SERVING},
                              .others = true,
                              .mute = true,
                              .warm_up = 400,
                              .timeout_ms = 30,
                              .pace_ms = 30,
                              .linger_ms = 3};

    tell((const struct life_plan[]){first, first, end}, "superblock of a start, twice");
    tell((const struct life_plan[]){peer, end}, "superblock of the peer");
    tell((const struct life_plan[]){stop, end}, "superblock of a clean stop");
    tell((const struct life_plan[]){stop, first, stop, end}, "superblock of a clean stop, twice");
    for (ceiling.strike.hit = 1; ceiling.strike.hit <= 4; ceiling.strike.hit++) {
        ceiling.seed = next_seed();
        tell((const struct life_plan[]){ceiling, end}, "superblock of the ceiling");
    }
    tell((const struct life_plan[]){alone, end}, "superblock that says degraded");
    alone.strike.hit = 2;
    tell((const struct life_plan[]){alone, end}, "superblock that says full compare");
}

static void superblocks(void)
{
    for (unsigned i = 0; i < HK_ARRAY_SIZE(meta_steps); i++)
        superblock_stories(meta_steps[i]);
}

/* The making of a ring: the very first, after a clean stop, and after the old one was lost. */
static void rings(void)
{
    static const int steps[] = {HK_AT_ring_formatted, HK_AT_ring_aside, HK_AT_ring_placed,
                                HK_AT_taken_over,     HK_AT_reserving,  HK_AT_reserved,
                                HK_AT_headed,         HK_AT_published};
    const struct life_plan end = {.strike = {.step = STEP_NONE}};
    const struct life_plan clean = {
        .strike = {HK_AT_completing, NOT_AT_ALL}, .warm_up = 20, .lose_ring = true};
    const struct life_plan unclean = {.strike = {HK_AT_submitting, 1, SUBJECT},
                                      .others = true,
                                      .warm_up = 20,
                                      .timeout_ms = 100, /* its successors wait so long */
                                      .lose_ring = true};

    for (unsigned i = 0; i < HK_ARRAY_SIZE(steps); i++) {
        const struct life_plan first = {.strike = {steps[i], 1, ANYWHERE}};

        tell((const struct life_plan[]){first, first, end}, "the first ring");
        tell((const struct life_plan[]){clean, first, end}, "a ring after a clean stop");
        if (i < 4) /* then capture passes, and nothing more is reserved */
            tell((const struct life_plan[]){unclean, first, end}, "a ring after a lost one");
    }
}

/* A successor is killed while it takes over, and the one after it too. */
static void successors(void)
{
    static const int before[] = {HK_AT_reserved, HK_AT_headed, HK_AT_published, HK_AT_written};
    static const struct {
        int step;
        enum { BOTH, VOID, REDO } only; /* it comes there only with something to void, to redo */
    } after[] = {{HK_AT_voiding, VOID},      {HK_AT_hashed, VOID},       {HK_AT_headed, VOID},
                 {HK_AT_published, VOID},    {HK_AT_voided, VOID},       {HK_AT_redoing, REDO},
                 {STEP_ORIGIN_HALF, REDO},   {HK_AT_redone, REDO},       {HK_AT_done, REDO},
                 {HK_AT_taken_over, BOTH},   {HK_AT_meta_writing, BOTH}, {STEP_META_HALF, BOTH},
                 {HK_AT_meta_written, BOTH}, {HK_AT_meta_flushed, BOTH}, {HK_AT_meta_known, BOTH}};
    const struct life_plan end = {.strike = {.step = STEP_NONE}};

    for (unsigned i = 0; i < HK_ARRAY_SIZE(before); i++) {
        for (unsigned k = 0; k < HK_ARRAY_SIZE(after); k++) {
            const struct life_plan first = {.strike = {before[i], 1, SUBJECT},
                                            .others = true,
                                            .warm_up = (unsigned)(next_seed() % 24),
                                            .seed = next_seed()};
            const struct life_plan second = {.strike = {after[k].step, 1, ANYWHERE}};
            const struct life_plan third = {.strike = {HK_AT_meta_written, 1, ANYWHERE}};

            if (after[k].only == (i < 2 ? REDO : VOID))
                continue;
            tell((const struct life_plan[]){first, second, third, end}, "a successor");
        }
    }
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    verdict_clean_up = clean_up;
    requests();
    reports();
    superblocks();
    rings();
    successors();
    printf("# %u stories\n", stories);
    for (int i = 0; i < STEP_COUNT; i++)
        printf("# %-15s %u\n", step_name(i), deaths[i]);
    for (int i = 0; i < STEP_COUNT && !getenv("HK_KILL_STORY") && !VERDICT_BUG; i++)
        WANT(deaths[i] > 0, "a step at which nothing died");
    return verdict_end("plugin_kill");
}
