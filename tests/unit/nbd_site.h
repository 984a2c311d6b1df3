/* SPDX-License-Identifier: Apache-2.0 */
/* A primary site for tests: its files, its nbdkit with the plugin, its replicator without a link.
 */
#ifndef HK_TESTS_NBD_SITE_H
#define HK_TESTS_NBD_SITE_H

#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <libnbd.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "driver-glue/uapi/capture_ipc.h"

enum { BLOCK = 4096, BLOCKS = 512, DEPTH = 12, VOLUMES = 2, ROUNDS = 12 };
#define VOLUME_BYTES ((uint64_t)BLOCK * BLOCKS)
#define GROUP        "11111111-2222-3333-4444-555555555555"

struct site {
    char dir[64], ring[64];
    pid_t plugin, consumer;
    const char *mode, *policy;
    unsigned timeout_ms;
};

static inline void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "we");

    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static inline char *in_dir(const struct site *s, const char *name)
{
    static char path[8][128];
    static unsigned next;
    char *to = path[next++ % 8];

    snprintf(to, sizeof(path[0]), "%s/%s", s->dir, name);
    return to;
}

static inline pid_t spawn(const struct site *s, const char *log, const char *const argv[])
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        int fd = open(in_dir(s, log), O_WRONLY | O_CREAT | O_APPEND, 0600);

        dup2(fd, 1);
        dup2(fd, 2);
        alarm(100); /* whatever happens to the test, nothing stays behind */
        if (strcmp(argv[0], "nbdkit") == 0 && getenv("HK_PRELOAD") && *getenv("HK_PRELOAD")) {
            setenv("LD_PRELOAD", getenv("HK_PRELOAD"), 1);
            setenv("ASAN_OPTIONS", "detect_leaks=0", 1); /* nbdkit's own are not ours */
            setenv("TSAN_OPTIONS", "exitcode=0", 1);
        }
        union {
            const char *const *in;
            char *const *out;
        } u = {.in = argv};

        execvp(argv[0], u.out);
        _exit(127);
    }
    return pid;
}

static inline void end(pid_t *pid, int signal_number)
{
    int status;

    if (*pid <= 0)
        return;
    kill(*pid, signal_number);
    assert_int_equal(waitpid(*pid, &status, 0), *pid);
    *pid = 0;
}

static inline void conf(const struct site *s)
{
    char text[2048];

    snprintf(text, sizeof(text),
             "name = \"core\"; group-id = \"" GROUP "\"; mode = \"%s\"; on-link-loss = \"%s\";\n"
             "contact-timeout-ms = %u; pace-bound-ms = 5000;\n"
             "volumes = ( { name = \"data\"; size = %llu; }, { name = \"wal\"; size = %llu; } );\n",
             s->mode, s->policy, s->timeout_ms, (unsigned long long)VOLUME_BYTES,
             (unsigned long long)VOLUME_BYTES);
    write_file(in_dir(s, "group.conf"), text);
    snprintf(
        text, sizeof(text),
        "site = \"tokyo\";\ncapture = { socket = \"%s/cap\"; ring = \"%s\"; ring-slots = 1024;\n"
        "ring-payload = 4194304; metadata = \"%s/md\"; reader-uid = 0;\n"
        "origins = ( { volume = \"data\"; path = \"%s/o0\"; },\n"
        "            { volume = \"wal\"; path = \"%s/o1\"; } ); };\n",
        s->dir, s->ring, s->dir, s->dir, s->dir);
    write_file(in_dir(s, "site.conf"), text);
}

static inline void make_with(struct site *s, const char *mode, const char *policy,
                             unsigned timeout_ms, const char *map)
{
    char volume[2][64];
    pid_t pid;

    *s = (struct site){.mode = mode, .policy = policy, .timeout_ms = timeout_ms};
    strcpy(s->dir, "/tmp/hikae-nbd-XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    snprintf(s->ring, sizeof(s->ring), "/dev/shm/hikae-nbd-%s", s->dir + strlen(s->dir) - 6);
    conf(s);
    for (unsigned i = 0; i < 4; i++) {
        char name[8];
        int fd;

        snprintf(name, sizeof(name), "%c%u", i < 2 ? 'o' : 'r', i % 2);
        fd = open(in_dir(s, name), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        assert_int_equal(ftruncate(fd, (off_t)VOLUME_BYTES), 0);
        close(fd);
    }
    snprintf(volume[0], sizeof(volume[0]), "data=%llu", (unsigned long long)VOLUME_BYTES);
    snprintf(volume[1], sizeof(volume[1]), "wal=%llu", (unsigned long long)VOLUME_BYTES);
    pid = spawn(s, "create.log",
                (const char *[]){getenv("HK_CONSUMER"), "--create-md", in_dir(s, "md"), "--group",
                                 GROUP, "--name", "core", "--volume", volume[0], "--volume",
                                 volume[1], map, NULL});
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static inline void make(struct site *s, const char *mode, const char *policy, unsigned timeout_ms)
{
    make_with(s, mode, policy, timeout_ms, NULL);
}

static inline void start_plugin(struct site *s)
{
    char group[160], site[160];

    snprintf(group, sizeof(group), "group=%s/group.conf", s->dir);
    snprintf(site, sizeof(site), "site=%s/site.conf", s->dir);
    unlink(in_dir(s, "nbd"));
    s->plugin = spawn(s, "plugin.log",
                      (const char *[]){"nbdkit", "-f", "-U", in_dir(s, "nbd"), getenv("HK_PLUGIN"),
                                       group, site, NULL});
}

static inline void start_consumer(struct site *s, const char *extra, const char *value)
{
    char image[2][128];

    snprintf(image[0], sizeof(image[0]), "0=%s/r0", s->dir);
    snprintf(image[1], sizeof(image[1]), "1=%s/r1", s->dir);
    s->consumer = spawn(s, "consumer.log",
                        (const char *[]){getenv("HK_CONSUMER"), "--socket", in_dir(s, "cap"),
                                         "--group", GROUP, "--image", image[0], "--image", image[1],
                                         extra, value, NULL});
}

static inline bool logged(const struct site *s, const char *log, const char *what)
{
    char line[1024];
    bool found = false;
    FILE *f = fopen(in_dir(s, log), "re");

    while (f && !found && fgets(line, sizeof(line), f))
        found = strstr(line, what) != NULL;
    if (f)
        fclose(f);
    return found;
}

/* A sanitizer's report in a log is a failure, whatever else was found. */
static inline void no_report(const struct site *s)
{
    assert_false(logged(s, "plugin.log", "Sanitizer"));
    assert_false(logged(s, "plugin.log", "runtime error"));
    assert_false(logged(s, "plugin.log", "assertion failed"));
    assert_false(logged(s, "consumer.log", "cap_consumer: "));
}

static inline void destroy(struct site *s)
{
    static const char *const names[] = {"group.conf", "site.conf",  "md",           "o0",
                                        "o1",         "r0",         "r1",           "nbd",
                                        "cap",        "plugin.log", "consumer.log", "create.log"};
    char aside[80];

    end(&s->plugin, SIGKILL);
    end(&s->consumer, SIGKILL);
    no_report(s);
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unlink(in_dir(s, names[i]));
    unlink(s->ring);
    snprintf(aside, sizeof(aside), "%s.lost", s->ring);
    unlink(aside);
    rmdir(s->dir);
}

static inline uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static inline void pause_ms(unsigned ms)
{
    usleep(ms * 1000);
}

static inline struct nbd_handle *try_connect(const struct site *s, const char *volume)
{
    struct nbd_handle *h = nbd_create();
    char uri[200];

    assert_non_null(h);
    snprintf(uri, sizeof(uri), "nbd+unix:///%s?socket=%s/nbd", volume, s->dir);
    if (nbd_connect_uri(h, uri) == 0)
        return h;
    nbd_close(h);
    return NULL;
}

static inline struct nbd_handle *connect_to(const struct site *s, const char *volume)
{
    struct nbd_handle *h = NULL;

    for (unsigned i = 0; i < 200 && !h; i++) {
        h = try_connect(s, volume);
        if (!h)
            pause_ms(20);
    }
    assert_non_null(h);
    return h;
}

static inline bool wait_logged(const struct site *s, const char *log, const char *what)
{
    for (unsigned i = 0; i < 500; i++) {
        if (logged(s, log, what))
            return true;
        pause_ms(10);
    }
    return false;
}

#endif
