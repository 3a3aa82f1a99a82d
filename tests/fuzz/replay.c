/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

/* Stands in for libFuzzer: runs every file of a folder once. */

enum { INPUT_MAX = 1024 * 1024 };

static void run_file(const char *path)
{
    FILE *file = fopen(path, "re");
    uint8_t *buffer = malloc(INPUT_MAX);

    if (!file || !buffer) {
        perror(path);
        exit(1);
    }
    size_t len = fread(buffer, 1, INPUT_MAX, file);
    (void)fclose(file);
    /* the exact length, so that a sanitizer sees reads beyond the end */
    uint8_t *bytes = realloc(buffer, len > 0 ? len : 1);
    if (!bytes)
        abort();
    (void)LLVMFuzzerTestOneInput(bytes, len);
    free(bytes);
}

int main(int argc, char **argv)
{
    DIR *folder = argc == 2 ? opendir(argv[1]) : NULL;
    const struct dirent *entry = NULL;
    unsigned n = 0;

    if (!folder) {
        (void)fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return 2;
    }
    while ((entry = readdir(folder))) {
        char path[4096];

        if (entry->d_name[0] == '.')
            continue;
        (void)snprintf(path, sizeof(path), "%s/%s", argv[1], entry->d_name);
        run_file(path);
        n++;
    }
    (void)closedir(folder);
    (void)printf("%u inputs\n", n);
    return n > 0 ? 0 : 1;
}
