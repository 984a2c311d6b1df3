/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the disk over io_uring does what replicator/store/disk.h promises, on real files, errors
 * included; files are opened, prepared and refused as replicator/io/uring_disk.h says.
 * Method: a directory of its own for every test on a file system that knows O_DIRECT; ops are
 * submitted, the reactor turned until all are handed out, results and file contents compared.
 */
#include "tests/unit/unit.h"

#include "replicator/io/reactor.h"
#include "replicator/io/uring_disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, FILE_BYTES = 1 << 20, DATA_FILE = HK_FILE_VOLUME0 };

struct fixture {
    char dir[64];
    struct hk_reactor *reactor;
    struct hk_uring_disk *disk;
    struct hk_disk *iface;
    uint8_t *buf; /* 1 MiB, page-aligned */
    uint32_t done;
    struct hk_diskop *order[64];
};

static void remove_tree(const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *e;

    while (d != NULL && (e = readdir(d)) != NULL)
        if (e->d_name[0] != '.')
            unlinkat(dirfd(d), e->d_name, 0);
    if (d != NULL)
        closedir(d);
    rmdir(dir);
}

static int setup_ops(void **state, uint32_t ops_max)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct hk_io_error err = {0};

    snprintf(f->dir, sizeof(f->dir), "/var/tmp/hk-disk-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    assert_int_equal(hk_reactor_create(&(struct hk_reactor_cfg){.cpu = -1}, &f->reactor, &err), 0);
    assert_int_equal(hk_uring_disk_create(f->reactor,
                                          &(struct hk_uring_disk_cfg){.ops_max = ops_max}, &f->disk,
                                          &err),
                     0);
    f->iface = hk_uring_disk_iface(f->disk);
    f->buf = aligned_alloc(PAGE, FILE_BYTES);
    *state = f;
    return 0;
}

static int setup(void **state)
{
    return setup_ops(state, 0);
}

static int setup_few(void **state)
{
    return setup_ops(state, 3);
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    hk_uring_disk_free(f->disk);
    hk_reactor_free(f->reactor);
    remove_tree(f->dir);
    free(f->buf);
    free(f);
    return 0;
}

static const char *path_in(const struct fixture *f, const char *name)
{
    static char path[4][160];
    static unsigned turn;
    char *p = path[turn++ % 4];

    snprintf(p, sizeof(path[0]), "%s/%s", f->dir, name);
    return p;
}

static int make_file(struct fixture *f, const char *name, off_t bytes)
{
    int fd = open(path_in(f, name), O_RDWR | O_CREAT | O_EXCL | O_DIRECT, 0600);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, bytes), 0);
    return fd;
}

static void bind_data(struct fixture *f)
{
    assert_int_equal(hk_uring_disk_bind(f->disk, DATA_FILE, make_file(f, "data", FILE_BYTES), NULL),
                     0);
}

static void handed_out(void *arg, struct hk_diskop *op)
{
    struct fixture *f = arg;

    f->order[f->done++ % HK_ARRAY_SIZE(f->order)] = op;
}

static void run_until(struct fixture *f, uint32_t done)
{
    for (int i = 0; f->done < done; i++) {
        assert_true(i < 100000);
        hk_reactor_turn(f->reactor, 10 * 1000 * 1000);
        hk_uring_disk_poll(f->disk, handed_out, f, 64);
    }
    assert_int_equal(f->done, done);
}

static int run_one(struct fixture *f, struct hk_diskop *op)
{
    op->result = 12345;
    f->iface->submit(f->iface, op);
    /* Never inside submit. */
    assert_int_equal(op->result, op->result == 12345 ? 12345 : op->result);
    run_until(f, f->done + 1);
    assert_ptr_equal(f->order[(f->done - 1) % HK_ARRAY_SIZE(f->order)], op);
    return op->result;
}

static struct hk_diskop transfer(enum hk_disk_kind kind, uint64_t offset, void *base, size_t bytes)
{
    return (struct hk_diskop){
        .kind = kind,
        .file = DATA_FILE,
        .offset = offset,
        .bytes = bytes,
        .iov = {{base, bytes}},
        .iov_count = 1,
    };
}

static void test_write_then_read(void **state)
{
    struct fixture *f = *state;
    uint64_t seed = 1;
    struct hk_diskop op;
    uint8_t *copy = f->buf + FILE_BYTES / 2;

    bind_data(f);
    unit_random_bytes(&seed, f->buf, 8 * PAGE);
    memcpy(copy, f->buf, 8 * PAGE);
    op = transfer(HK_DISK_WRITE, 16 * PAGE, f->buf, 8 * PAGE);
    op.iov[0].bytes = PAGE;
    op.iov[1] = (struct hk_iovec){f->buf + PAGE, 4 * PAGE};
    op.iov[2] = (struct hk_iovec){f->buf + 5 * PAGE, 2 * PAGE};
    op.iov[3] = (struct hk_iovec){f->buf + 7 * PAGE, PAGE};
    op.iov_count = 4;
    assert_int_equal(run_one(f, &op), 0);
    op = (struct hk_diskop){.kind = HK_DISK_FLUSH, .file = DATA_FILE};
    assert_int_equal(run_one(f, &op), 0);
    memset(f->buf, 0, 8 * PAGE);
    op = transfer(HK_DISK_READ, 16 * PAGE, f->buf, 8 * PAGE);
    assert_int_equal(run_one(f, &op), 0);
    assert_memory_equal(f->buf, copy, 8 * PAGE);
    op = transfer(HK_DISK_WRITE_DSYNC, 0, copy, PAGE);
    assert_int_equal(run_one(f, &op), 0);
    op = transfer(HK_DISK_READ, 0, f->buf, PAGE);
    assert_int_equal(run_one(f, &op), 0);
    assert_memory_equal(f->buf, copy, PAGE);
}

static void test_not_inside_submit(void **state)
{
    struct fixture *f = *state;
    struct hk_diskop op = {.kind = HK_DISK_FLUSH, .file = 999, .result = 77};

    /* Even one that fails at once waits to be handed out. */
    f->iface->submit(f->iface, &op);
    assert_int_equal(f->done, 0);
    assert_int_equal(hk_uring_disk_in_flight(f->disk), 1);
    run_until(f, 1);
    assert_int_equal(op.result, -EBADF);
    assert_int_equal(hk_uring_disk_in_flight(f->disk), 0);
}

/* Three requests in the pool, forty ops: all are done, none twice. */
static void test_more_ops_than_requests(void **state)
{
    struct fixture *f = *state;
    struct hk_diskop ops[40];
    struct hk_uring_disk_stats s;

    bind_data(f);
    for (uint32_t i = 0; i < 40; i++) {
        memset(f->buf + (size_t)i * PAGE, (int)i + 1, PAGE);
        ops[i] = transfer(HK_DISK_WRITE, (uint64_t)i * PAGE, f->buf + (size_t)i * PAGE, PAGE);
        f->iface->submit(f->iface, &ops[i]);
    }
    assert_int_equal(hk_uring_disk_in_flight(f->disk), 40);
    run_until(f, 40);
    for (uint32_t i = 0; i < 40; i++)
        assert_int_equal(ops[i].result, 0);
    memset(f->buf, 0, 40 * PAGE);
    ops[0] = transfer(HK_DISK_READ, 0, f->buf, 40 * PAGE);
    assert_int_equal(run_one(f, &ops[0]), 0);
    for (uint32_t i = 0; i < 40; i++)
        assert_int_equal(f->buf[i * PAGE + 17], i + 1);
    hk_uring_disk_stats(f->disk, &s);
    assert_int_equal(s.writes, 40);
    assert_int_equal(s.write_bytes, 40 * PAGE);
}

static void test_errors(void **state)
{
    struct fixture *f = *state;
    struct hk_uring_disk_stats s;
    struct hk_diskop op;
    int fd;

    bind_data(f);
    /* Crosses the end of the file: short, continued, then no progress. */
    op = transfer(HK_DISK_READ, FILE_BYTES - PAGE, f->buf, 2 * PAGE);
    assert_int_equal(run_one(f, &op), -EIO);
    hk_uring_disk_stats(f->disk, &s);
    assert_int_equal(s.continued, 1);
    op = transfer(HK_DISK_WRITE, 0, f->buf + 1, PAGE);
    assert_int_equal(run_one(f, &op), -EINVAL); /* not aligned for O_DIRECT */
    op = transfer(HK_DISK_READ, 0, f->buf, PAGE);
    op.file = DATA_FILE + 1;
    assert_int_equal(run_one(f, &op), -EBADF);
    op.file = 1u << 30;
    assert_int_equal(run_one(f, &op), -EBADF);
    fd = open(path_in(f, "data"), O_RDONLY | O_DIRECT);
    assert_int_equal(hk_uring_disk_bind(f->disk, DATA_FILE + 1, fd, NULL), 0);
    op = transfer(HK_DISK_WRITE, 0, f->buf, PAGE);
    op.file = DATA_FILE + 1;
    assert_int_equal(run_one(f, &op), -EBADF);
    assert_int_equal(hk_uring_disk_bind(f->disk, DATA_FILE + 1, fd, NULL), -EEXIST);
    assert_int_equal(hk_uring_disk_bind(f->disk, 1u << 30, fd, NULL), -ENOSPC);
    hk_uring_disk_stats(f->disk, &s);
    assert_int_equal(s.errors, 5);
    op = transfer(HK_DISK_WRITE, 0, f->buf, 0);
    assert_int_equal(run_one(f, &op), 0); /* nothing to do is no error */
}

static void punch_and_check(struct fixture *f)
{
    struct hk_diskop op;

    memset(f->buf, 0xaa, FILE_BYTES);
    op = transfer(HK_DISK_WRITE, 0, f->buf, FILE_BYTES);
    assert_int_equal(run_one(f, &op), 0);
    op = (struct hk_diskop){
        .kind = HK_DISK_PUNCH, .file = DATA_FILE, .offset = 3 * PAGE, .bytes = 200 * PAGE};
    assert_int_equal(run_one(f, &op), 0);
    op = transfer(HK_DISK_READ, 0, f->buf, FILE_BYTES);
    assert_int_equal(run_one(f, &op), 0);
    for (size_t i = 0; i < FILE_BYTES; i++)
        assert_int_equal(f->buf[i], i >= 3 * PAGE && i < 203 * PAGE ? 0 : 0xaa);
}

static void test_punch(void **state)
{
    struct fixture *f = *state;
    struct hk_uring_disk_stats s;

    bind_data(f);
    punch_and_check(f);
    hk_uring_disk_stats(f->disk, &s);
    assert_int_equal(s.punch_written, 0);
}

/* A real block device: a loop device over a file, where we may have one. */
static int loop_over(const struct fixture *f, char ret_path[32])
{
    int control, backing, loop, number;

    close(make_file((struct fixture *)(uintptr_t)f, "backing", FILE_BYTES));
    control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    if (control < 0)
        return -1;
    number = ioctl(control, LOOP_CTL_GET_FREE);
    close(control);
    if (number < 0)
        return -1;
    snprintf(ret_path, 32, "/dev/loop%d", number);
    loop = open(ret_path, O_RDWR | O_CLOEXEC);
    backing = open(path_in(f, "backing"), O_RDWR | O_CLOEXEC);
    if (loop >= 0 && backing >= 0 && ioctl(loop, LOOP_SET_FD, backing) == 0) {
        /* Detached with its last user. */
        struct loop_info64 info = {.lo_flags = LO_FLAGS_AUTOCLEAR};

        assert_int_equal(ioctl(loop, LOOP_SET_STATUS64, &info), 0);
        close(backing);
        return loop;
    }
    close(loop);
    close(backing);
    return -1;
}

static void test_block_device(void **state)
{
    struct fixture *f = *state;
    struct hk_io_error err = {0};
    char path[32];
    uint64_t bytes = 0;
    int loop = loop_over(f, path), fd, other;

    if (loop < 0) {
        print_message("# no loop device here: %s\n", strerror(errno));
        skip();
    }
    assert_int_equal(hk_disk_open_volume(path, FILE_BYTES, true, &fd, &bytes, &err), 0);
    assert_int_equal(bytes, FILE_BYTES);
    assert_int_equal(hk_disk_open_volume(path, 0, true, &other, NULL, &err), -EBUSY);
    assert_non_null(strstr(err.text, "Hikae's alone"));
    assert_int_equal(hk_uring_disk_bind(f->disk, DATA_FILE, fd, NULL), 0);
    close(loop);
    punch_and_check(f);
    assert_int_equal(run_one(f, &(struct hk_diskop){.kind = HK_DISK_FLUSH, .file = DATA_FILE}), 0);
    assert_int_equal(run_one(f, &(struct hk_diskop){.kind = HK_DISK_PUNCH,
                                                    .file = DATA_FILE,
                                                    .offset = 100,
                                                    .bytes = 100}),
                     -EINVAL);
}

/* A file system without any fallocate (ramfs): zeroes are written. In a child with its own mounts.
 */
static void test_punch_by_writing(void **state)
{
    struct fixture *f = *state;
    struct hk_uring_disk_stats s;
    int flags = geteuid() == 0 ? CLONE_NEWNS : CLONE_NEWUSER | CLONE_NEWNS, fd;

    if (unshare(flags) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("ramfs", f->dir, "ramfs", 0, NULL) != 0) {
        print_message("# no mount namespace or ramfs here: %s\n", strerror(errno));
        skip();
    }
    fd = open(path_in(f, "data"), O_RDWR | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(hk_uring_disk_bind(f->disk, DATA_FILE, fd, NULL), 0);
    punch_and_check(f);
    hk_uring_disk_stats(f->disk, &s);
    assert_int_equal(s.punch_written, 200 * PAGE);
    umount2(f->dir, MNT_DETACH);
}

static void bind_journal(struct fixture *f)
{
    int dir = open(f->dir, O_RDONLY | O_DIRECTORY);

    assert_int_equal(hk_uring_disk_bind(f->disk, HK_FILE_JOURNAL_DIR, dir, NULL), 0);
    for (uint32_t i = 0; i < 2; i++) {
        char name[32];

        snprintf(name, sizeof(name), "free-%u.seg", i);
        assert_int_equal(
            hk_uring_disk_bind(f->disk, HK_FILE_SEGMENT0 + i, make_file(f, name, FILE_BYTES), name),
            0);
    }
}

static int named(struct fixture *f, enum hk_disk_kind kind, uint32_t file, const char *name)
{
    struct hk_diskop op = {.kind = kind, .file = file, .name = name};

    return run_one(f, &op);
}

static void test_rename(void **state)
{
    struct fixture *f = *state;
    char longest[300];

    bind_journal(f);
    assert_int_equal(named(f, HK_DISK_RENAME, HK_FILE_SEGMENT0, "7-a.seg"), 0);
    assert_string_equal(hk_uring_disk_name(f->disk, HK_FILE_SEGMENT0), "7-a.seg");
    assert_int_equal(access(path_in(f, "7-a.seg"), F_OK), 0);
    assert_int_equal(access(path_in(f, "free-0.seg"), F_OK), -1);
    assert_int_equal(named(f, HK_DISK_SYNC_DIR, HK_FILE_JOURNAL_DIR, NULL), 0);
    /* Never over another segment; and the name known stays the true one. */
    assert_int_equal(named(f, HK_DISK_RENAME, HK_FILE_SEGMENT0, "free-1.seg"), -EEXIST);
    assert_string_equal(hk_uring_disk_name(f->disk, HK_FILE_SEGMENT0), "7-a.seg");
    assert_int_equal(named(f, HK_DISK_RENAME, HK_FILE_SEGMENT0, "7-a.seg"), 0);
    assert_int_equal(named(f, HK_DISK_RENAME, HK_FILE_SEGMENT0, "../escape.seg"), -EINVAL);
    assert_int_equal(named(f, HK_DISK_RENAME, HK_FILE_SEGMENT0, ""), -EINVAL);
    memset(longest, 'x', sizeof(longest));
    longest[sizeof(longest) - 1] = '\0';
    assert_int_equal(named(f, HK_DISK_RENAME, HK_FILE_SEGMENT0, longest), -ENAMETOOLONG);
    bind_data(f);
    assert_int_equal(named(f, HK_DISK_RENAME, DATA_FILE, "x.seg"), -EINVAL); /* has no name */
}

static void test_create_alloc_unlink(void **state)
{
    struct fixture *f = *state;
    uint32_t file = HK_FILE_SEGMENT0 + 5;
    struct hk_diskop op;
    struct stat st;

    bind_journal(f);
    assert_int_equal(named(f, HK_DISK_CREATE, file, "new.seg"), 0);
    assert_int_equal(named(f, HK_DISK_CREATE, file, "other.seg"), -EEXIST);
    op = (struct hk_diskop){.kind = HK_DISK_ALLOC, .file = file, .bytes = 64 * PAGE};
    assert_int_equal(run_one(f, &op), 0);
    assert_int_equal(stat(path_in(f, "new.seg"), &st), 0);
    assert_int_equal(st.st_size, 64 * PAGE);
    memset(f->buf, 9, PAGE);
    op = transfer(HK_DISK_WRITE, 0, f->buf, PAGE);
    op.file = file;
    assert_int_equal(run_one(f, &op), 0);
    assert_int_equal(named(f, HK_DISK_UNLINK, file, NULL), 0);
    assert_int_equal(access(path_in(f, "new.seg"), F_OK), -1);
    assert_int_equal(run_one(f, &op), -EBADF);
}

/* ---- opening ---- */

static void test_open_volume(void **state)
{
    struct fixture *f = *state;
    struct hk_io_error err = {0};
    uint64_t bytes = 0;
    int fd, other;

    close(make_file(f, "vol", FILE_BYTES));
    assert_int_equal(hk_disk_open_volume(path_in(f, "vol"), FILE_BYTES, true, &fd, &bytes, &err),
                     0);
    assert_int_equal(bytes, FILE_BYTES);
    assert_true(fcntl(fd, F_GETFL) & O_DIRECT);
    assert_int_equal(hk_disk_open_volume(path_in(f, "vol"), 0, true, &other, NULL, &err), -EBUSY);
    assert_non_null(strstr(err.text, "in use"));
    close(fd);
    other = -7;
    assert_int_equal(
        hk_disk_open_volume(path_in(f, "vol"), FILE_BYTES + PAGE, true, &other, NULL, &err),
        -EOVERFLOW);
    assert_non_null(strstr(err.text, "1048576"));
    assert_non_null(strstr(err.text, "1052672"));
    assert_int_equal(
        hk_disk_open_volume(path_in(f, "vol"), FILE_BYTES - PAGE, true, &other, NULL, &err),
        -EFBIG);
    assert_int_equal(hk_disk_open_volume(path_in(f, "no"), 0, true, &other, NULL, &err), -ENOENT);
    assert_int_equal(hk_disk_open_volume(f->dir, 0, true, &other, NULL, &err), -EINVAL);
    assert_int_equal(hk_disk_open_volume("/dev/null", 0, true, &other, NULL, &err), -EINVAL);
    assert_int_equal(other, -7); /* untouched on failure */
}

static uint32_t large_sectors(int fd, bool block)
{
    return PAGE;
}

/* What ends inside a sector could never be written whole: refused while it costs nothing. */
static void test_open_large_sectors(void **state)
{
    uint32_t (*truly)(int fd, bool block) = hk_disk_sector_bytes;
    struct fixture *f = *state;
    struct hk_io_error err = {0};
    int fd = -7;

    close(make_file(f, "odd", FILE_BYTES + 512));
    close(make_file(f, "even", FILE_BYTES));
    hk_disk_sector_bytes = large_sectors;
    assert_int_equal(
        hk_disk_open_volume(path_in(f, "odd"), FILE_BYTES + 512, true, &fd, NULL, &err),
        -EOPNOTSUPP);
    assert_non_null(strstr(err.text, "sectors of 4096 bytes"));
    assert_int_equal(fd, -7);
    assert_int_equal(hk_disk_open_volume(path_in(f, "even"), FILE_BYTES, true, &fd, NULL, &err), 0);
    close(fd);
    hk_disk_sector_bytes = truly;
    /* A file system on small sectors takes it, as the probe finds out. */
    assert_int_equal(
        hk_disk_open_volume(path_in(f, "odd"), FILE_BYTES + 512, true, &fd, NULL, &err), 0);
    close(fd);
}

static void test_open_meta(void **state)
{
    struct fixture *f = *state;
    struct hk_io_error err = {0};
    struct stat st;
    int fd, again = -7;

    assert_int_equal(hk_disk_open_meta(path_in(f, "md"), 8 * PAGE, false, &fd, &err), -ENOENT);
    assert_int_equal(hk_disk_open_meta(path_in(f, "md"), 8 * PAGE, true, &fd, &err), 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, 8 * PAGE);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(hk_disk_open_meta(path_in(f, "md"), 8 * PAGE, true, &again, &err), -EEXIST);
    assert_int_equal(hk_disk_open_meta(path_in(f, "md"), 8 * PAGE, false, &again, &err), -EBUSY);
    close(fd);
    assert_int_equal(hk_disk_open_meta(path_in(f, "md"), 16 * PAGE, false, &again, &err),
                     -EOVERFLOW);
    assert_int_equal(hk_disk_open_meta(path_in(f, "md"), 8 * PAGE, false, &again, &err), 0);
    close(again);
}

static void progress_step(void *arg, const char *what, uint64_t done_bytes, uint64_t total_bytes)
{
    uint64_t *last = arg;

    assert_true(done_bytes > *last && done_bytes <= total_bytes);
    assert_int_equal(total_bytes, 3 * FILE_BYTES);
    *last = done_bytes;
}

static void close_segments(int dir_fd, const struct hk_segment_file *s, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        close(s[i].fd);
    close(dir_fd);
}

static void test_open_segments(void **state)
{
    struct fixture *f = *state;
    struct hk_segment_file s[4];
    struct hk_io_error err = {0};
    uint64_t last = 0;
    struct hk_disk_progress progress = {progress_step, &last};
    struct stat st;
    int dir_fd, other;

    /* What a crash left in the middle of a creation. */
    close(make_file(f, "free-00000001.seg.new", PAGE));
    assert_int_equal(hk_disk_open_segments(f->dir, FILE_BYTES, 3, &progress, &dir_fd, s, &err), 0);
    assert_int_equal(last, 3 * FILE_BYTES);
    assert_int_equal(access(path_in(f, "free-00000001.seg.new"), F_OK), -1);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(fstat(s[i].fd, &st), 0);
        assert_int_equal(st.st_size, FILE_BYTES);
        assert_true(st.st_blocks * 512 >= FILE_BYTES); /* written, not a hole */
    }
    assert_int_equal(hk_disk_open_segments(f->dir, FILE_BYTES, 3, NULL, &other, s + 3, &err),
                     -EBUSY);
    assert_int_equal(renameat(dir_fd, s[2].name, dir_fd, "00000001-x.seg"), 0);
    close_segments(dir_fd, s, 3);
    /* One more; the old ones keep their names; sorted. */
    assert_int_equal(hk_disk_open_segments(f->dir, FILE_BYTES, 4, NULL, &dir_fd, s, &err), 0);
    assert_string_equal(s[0].name, "00000001-x.seg");
    assert_string_equal(s[1].name, "free-00000000.seg");
    assert_string_equal(s[3].name, "free-00000002.seg");
    close_segments(dir_fd, s, 4);
    assert_int_equal(hk_disk_open_segments(f->dir, FILE_BYTES, 3, NULL, &dir_fd, s, &err), -E2BIG);
    assert_int_equal(hk_disk_open_segments(f->dir, 2 * FILE_BYTES, 4, NULL, &dir_fd, s, &err),
                     -EFBIG);
    assert_int_equal(hk_disk_open_segments(f->dir, 1000, 4, NULL, &dir_fd, s, &err), -EINVAL);
    assert_int_equal(hk_disk_open_segments("/nowhere", PAGE, 4, NULL, &dir_fd, s, &err), -ENOENT);
}

static void *let_go(void *fd)
{
    usleep(200000);
    close(*(int *)fd);
    return NULL;
}

/*
 * A killed daemon's write may still be with the kernel, which holds the file as this test does
 * here. A journal is not recovered, and not written, while such a write may come down behind it.
 */
static void test_segments_still_written(void **state)
{
    struct fixture *f = *state;
    struct hk_segment_file s[2];
    struct hk_io_error err = {0};
    pthread_t thread;
    int dir_fd, late;

    assert_int_equal(hk_disk_open_segments(f->dir, FILE_BYTES, 2, NULL, &dir_fd, s, &err), 0);
    late = dup(s[1].fd);
    close_segments(dir_fd, s, 2);
    assert_int_equal(hk_disk_open_segments(f->dir, FILE_BYTES, 2, NULL, &dir_fd, s, &err), -EBUSY);
    assert_int_equal(pthread_create(&thread, NULL, let_go, &late), 0);
    assert_int_equal(hk_disk_open_segments(f->dir, FILE_BYTES, 2, NULL, &dir_fd, s, &err), 0);
    pthread_join(thread, NULL);
    close_segments(dir_fd, s, 2);
}

static void test_segments_need_room(void **state)
{
    struct fixture *f = *state;
    struct hk_segment_file s[2];
    struct hk_io_error err = {0};
    int dir_fd;

    assert_int_equal(hk_disk_open_segments(f->dir, 1ull << 50, 2, NULL, &dir_fd, s, &err), -ENOSPC);
    assert_non_null(strstr(err.text, "MiB more"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_write_then_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_inside_submit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_more_ops_than_requests, setup_few, teardown),
        cmocka_unit_test_setup_teardown(test_errors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_punch, setup, teardown),
        cmocka_unit_test_setup_teardown(test_block_device, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rename, setup, teardown),
        cmocka_unit_test_setup_teardown(test_create_alloc_unlink, setup, teardown),
        cmocka_unit_test_setup_teardown(test_open_volume, setup, teardown),
        cmocka_unit_test_setup_teardown(test_open_large_sectors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_open_meta, setup, teardown),
        cmocka_unit_test_setup_teardown(test_open_segments, setup, teardown),
        cmocka_unit_test_setup_teardown(test_segments_still_written, setup, teardown),
        cmocka_unit_test_setup_teardown(test_segments_need_room, setup, teardown),
        /* Last: it leaves the process in a mount namespace of its own. */
        cmocka_unit_test_setup_teardown(test_punch_by_writing, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
