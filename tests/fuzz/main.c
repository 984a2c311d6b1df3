/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replays files through a fuzz target: every argument is a file or a directory of files. The corpus
 * is a regression test this way, without libFuzzer. No input at all is a failure, not a pass.
 */
#include "fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static unsigned inputs;

static int replay_file(const char *path)
{
    uint8_t *bytes = NULL;
    FILE *f = fopen(path, "rb");
    size_t size;
    long end;

    if (!f || fseek(f, 0, SEEK_END) != 0 || (end = ftell(f)) < 0) {
        perror(path);
        goto err_close;
    }
    rewind(f);
    size = (size_t)end;
    bytes = malloc(size ? size : 1); /* exactly as large as the input: ASan sees one byte beyond */
    if (!bytes || fread(bytes, 1, size, f) != size) {
        perror(path);
        goto err_free;
    }
    fclose(f);
    LLVMFuzzerTestOneInput(bytes, size);
    free(bytes);
    inputs++;
    return 0;

err_free:
    free(bytes);
err_close:
    if (f)
        fclose(f);
    return -1;
}

static int replay(const char *path)
{
    struct dirent **entries;
    struct stat st;
    int count, err = 0;

    if (stat(path, &st) != 0) {
        perror(path);
        return -1;
    }
    if (!S_ISDIR(st.st_mode))
        return replay_file(path);
    count = scandir(path, &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        char file[4096];

        if (entries[i]->d_name[0] != '.') {
            snprintf(file, sizeof(file), "%s/%s", path, entries[i]->d_name);
            err |= replay_file(file);
        }
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
    return count < 0 ? -1 : err;
}

int main(int argc, char **argv)
{
    int err = 0;

    for (int i = 1; i < argc; i++)
        err |= replay(argv[i]);
    printf("%u inputs replayed\n", inputs);
    return err || inputs == 0 ? 1 : 0;
}
