/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "blockd/held_path.h"
#include "tests/fuzz/fuzz.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * A path from a request, below a folder with ordinary folders, files, and links that lead out of it.
 * "R" at the start of the input stands for the root. No accepted path is outside of the root, and
 * nothing outside is changed.
 */

static char base[PATH_MAX] = "/tmp/fuzz-held-path.XXXXXX";
static char root[PATH_MAX], outside[PATH_MAX];

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *place)
{
    (void)st, (void)type, (void)place;
    return remove(path);
}

static void tidy(void)
{
    (void)nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void must(int status)
{
    if (status != 0)
        abort();
}

static const char *in(const char *folder, const char *name)
{
    static char path[PATH_MAX + 16];

    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static void set_up(void)
{
    char real[PATH_MAX];

    if (root[0])
        return;
    if (!mkdtemp(base) || !realpath(base, real))
        abort();
    (void)snprintf(base, sizeof(base), "%s", real);
    (void)snprintf(root, sizeof(root), "%.4000s/root", base);
    (void)snprintf(outside, sizeof(outside), "%.4000s/outside", base);
    must(mkdir(root, 0700));
    must(mkdir(outside, 0700));
    must(mkdir(in(outside, "a"), 0700));
    must(mkdir(in(root, "a"), 0700));
    must(mkdir(in(root, "a/b"), 0700));
    must(symlink(outside, in(root, "out")));
    must(symlink("../../outside", in(root, "a/up")));
    must(symlink("b", in(root, "a/in")));
    must(mknod(in(root, "file"), S_IFREG | 0600, 0));
    (void)atexit(tidy);
}

static bool is_below(const char *path, const char *folder)
{
    size_t len = strlen(folder);

    return strncmp(path, folder, len) == 0 && (path[len] == '/' || path[len] == 0);
}

static void check_name(const struct held_path *place)
{
    const char *last = strrchr(place->path, '/');

    if (!is_below(place->path, root) || !last || strcmp(last + 1, place->name) != 0 ||
        place->name[0] == 0 || strcmp(place->name, ".") == 0 || strcmp(place->name, "..") == 0 ||
        strstr(place->path, "/../") || strstr(place->path, "/./") || strstr(place->path, "//"))
        abort();
}

/* The held folder is the one that the path names: it is below the root, without any link. */
static void check_folder(const struct held_path *place)
{
    char link[64], real[PATH_MAX] = "";

    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", place->folder_fd);
    if (readlink(link, real, sizeof(real) - 1) < 0 || !is_below(real, root) ||
        strncmp(place->path, real, strlen(real)) != 0 ||
        strcmp(place->path + strlen(real) + 1, place->name) != 0)
        abort();
}

static void use(const struct held_path *place)
{
    struct error err = ERROR_INIT;
    struct stat st;
    auto_close int fd = -1, folder_fd = -1;
    bool found = false;

    check_folder(place);
    (void)!held_path_open_folder(place, &folder_fd);
    if (!held_path_stat(place, &found, &st, &err) || found) {
        (void)!held_path_open_fd(place, &fd, &err);
        return;
    }
    bool as_file = strlen(place->name) % 2 == 1;
    if (held_path_make(place, as_file, &err) && !held_path_remove(place, &err))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    const struct mount_roots roots = { .free = { .n = 1, .items = { root } } };
    struct error err = ERROR_INIT;
    static struct held_path named;
    auto_held_path struct held_path place = HELD_PATH_INIT;
    auto_free char *path = NULL;
    bool is_in_root = len > 0 && bytes[0] == 'R';

    set_up();
    if (asprintf(&path, "%s%.*s", is_in_root ? root : "", (int)(len - is_in_root),
                 (const char *)bytes + is_in_root) < 0)
        abort();
    bool is_named = held_path_name(&roots, NULL, path, &named, &err);
    if (is_named)
        check_name(&named);
    if (!held_path_open(&roots, NULL, path, &place, &err))
        return 0;
    if (!is_named || strcmp(named.path, place.path) != 0)
        abort();
    check_name(&place);
    use(&place);
    if (access(in(outside, "a"), F_OK) != 0)
        abort();
    return 0;
}
