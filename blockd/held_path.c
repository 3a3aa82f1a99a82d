/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/held_path.h"

#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* resolve: RESOLVE_NO_XDEV when the path may not cross a mount. */
static int open_beneath(int folder_fd, const char *path, uint64_t flags, uint64_t resolve)
{
    struct open_how how = { .flags = flags | O_CLOEXEC,
                            .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | resolve };

    return (int)syscall(SYS_openat2, folder_fd, path, &how, sizeof(how));
}

/* The part of path below root; NULL when path is not below root. */
static const char *below(const char *root, const char *path)
{
    size_t len = strlen(root);

    while (len > 0 && root[len - 1] == '/')
        len--;
    if (strncmp(path, root, len) != 0 || path[len] != '/')
        return NULL;
    path += len + strspn(path + len, "/");
    return *path ? path : NULL;
}

/* Removes trailing slashes, then splits at the last slash. */
static bool split(const char *rest, char folder[static PATH_MAX], char name[static NAME_MAX + 1],
                  struct error *err)
{
    size_t len = strlen(rest);

    while (len > 0 && rest[len - 1] == '/')
        len--;
    size_t start = len;
    while (start > 0 && rest[start - 1] != '/')
        start--;
    size_t name_len = len - start;
    if (len >= PATH_MAX || name_len == 0 || name_len > NAME_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "the path's last part is empty or too long");
    int n = snprintf(folder, PATH_MAX, "%.*s", (int)start, rest);
    int m = snprintf(name, NAME_MAX + 1, "%.*s", (int)name_len, rest + start);
    if (n < 0 || m < 0 || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return error_set(err, ERROR_INVALID_ARGUMENT, "path ends with \"%s\"", name);
    return true;
}

/* Opening a path with an inner "." would work, but mountinfo shows the path without it. */
static bool has_dots(const char *folder)
{
    for (const char *part = folder; *part;) {
        size_t len = strcspn(part, "/");

        if ((len == 1 && part[0] == '.') || (len == 2 && part[0] == '.' && part[1] == '.') ||
            (len == 0))
            return true;
        part += len;
        part += *part == '/';
    }
    return false;
}

/* A path below a root, taken apart. */
struct parts {
    char root[PATH_MAX]; /* real */
    char folder[PATH_MAX];
};

static bool take_apart(const char *root, const char *rest, struct parts *parts,
                       struct held_path *out, struct error *err)
{
    if (!split(rest, parts->folder, out->name, err))
        return false;
    if (has_dots(parts->folder))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "the path has an empty, \".\" or \"..\" part");
    if (!realpath(root, parts->root))
        return error_set_errno(err, errno, "mount root %s", root);
    int n = snprintf(out->path, sizeof(out->path), "%s/%s%s",
                     strcmp(parts->root, "/") == 0 ? "" : parts->root, parts->folder, out->name);
    return (n >= 0 && (size_t)n < sizeof(out->path)) ||
           error_set(err, ERROR_INVALID_ARGUMENT, "path is too long");
}

/* The longest root above path: a root may lie below another one. */
static const char *find_root(const struct option_list *roots, const char *path, const char *best)
{
    for (size_t i = 0; i < roots->n; i++) {
        if (below(roots->items[i], path) && (!best || strlen(roots->items[i]) > strlen(best)))
            best = roots->items[i];
    }
    return best;
}

static bool check_shape(const struct kubelet_rule *rule, const struct parts *parts,
                        const struct held_path *place, struct error *err)
{
    char rest[PATH_MAX];
    int n = snprintf(rest, sizeof(rest), "%s%s", parts->folder, place->name);

    if (n < 0 || (size_t)n >= sizeof(rest))
        return error_set(err, ERROR_INVALID_ARGUMENT, "path is too long");
    return kubelet_check_path(rule, rest, err);
}

static bool find_parts(const struct mount_roots *roots, const struct kubelet_rule *rule,
                       const char *path, struct parts *parts, struct held_path *out,
                       struct error *err)
{
    const char *kubelet = find_root(&roots->kubelet, path, NULL);
    const char *root = find_root(&roots->free, path, kubelet);
    const char *rest = root ? below(root, path) : NULL;

    if (!rest)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "%s: not below a folder given with --mount-root", path);
    if (!take_apart(root, rest, parts, out, err) ||
        (root == kubelet && rule && !check_shape(rule, parts, out, err)))
        return error_wrap(err, "%s", path);
    return true;
}

static bool open_root_folder(const struct parts *parts, int *out_fd, struct error *err)
{
    auto_close int root_fd = open(parts->root, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (root_fd < 0)
        return error_set_errno(err, errno, "mount root %s", parts->root);
    *out_fd = parts->folder[0]
                  ? open_beneath(root_fd, parts->folder, O_PATH | O_DIRECTORY, RESOLVE_NO_XDEV)
                  : TAKE_FD(root_fd);
    if (*out_fd >= 0)
        return true;
    if (errno == ELOOP)
        return error_set(err, ERROR_INVALID_ARGUMENT, "the path goes through a symbolic link");
    if (errno == EXDEV)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "the path goes through a mount below %s, which is not allowed",
                         parts->root);
    return error_set_errno(err, errno, "open the folder of the path");
}

bool held_path_resolve_roots(struct option_list *roots, struct error *err)
{
    size_t n = roots->n;

    for (size_t i = 0; i < n; i++) {
        char *real_path = realpath(roots->items[i], NULL);

        if (!real_path || strcmp(real_path, roots->items[i]) == 0) {
            free(real_path);
            continue;
        }
        if (roots->n == OPTION_LIST_MAX) {
            free(real_path);
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "too many mount roots: give their real paths, not links");
        }
        roots->items[roots->n++] = real_path; /* as long as the process lives */
    }
    return true;
}

bool held_path_name(const struct mount_roots *roots, const struct kubelet_rule *rule,
                    const char *path, struct held_path *out, struct error *err)
{
    struct held_path place = HELD_PATH_INIT;
    struct parts parts;

    if (!find_parts(roots, rule, path, &parts, &place, err))
        return false;
    *out = place;
    return true;
}

bool held_path_open(const struct mount_roots *roots, const struct kubelet_rule *rule,
                    const char *path, struct held_path *out, struct error *err)
{
    struct held_path place = HELD_PATH_INIT;
    struct parts parts;

    if (!find_parts(roots, rule, path, &parts, &place, err))
        return false;
    if (!open_root_folder(&parts, &place.folder_fd, err))
        return error_wrap(err, "%s", path);
    *out = place;
    return true;
}

bool held_path_open_below(const char *folder, const char *rest, struct held_path *out,
                          struct error *err)
{
    struct held_path place = HELD_PATH_INIT;
    struct parts parts;

    if (!take_apart(folder, rest, &parts, &place, err) ||
        !open_root_folder(&parts, &place.folder_fd, err))
        return error_wrap(err, "%s/%s", folder, rest);
    *out = place;
    return true;
}

void held_path_close(struct held_path *place)
{
    close_at(&place->folder_fd);
}

bool held_path_stat(const struct held_path *place, bool *found, struct stat *out, struct error *err)
{
    if (fstatat(place->folder_fd, place->name, out, AT_SYMLINK_NOFOLLOW) == 0) {
        *found = true;
        return true;
    }
    if (errno != ENOENT)
        return error_set_errno(err, errno, "%s", place->path);
    *found = false;
    return true;
}

bool held_path_make(const struct held_path *place, bool as_file, struct error *err)
{
    if (as_file) {
        int fd =
            openat(place->folder_fd, place->name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);

        if (fd >= 0)
            close(fd);
        else if (errno != EEXIST)
            return error_set_errno(err, errno, "create %s", place->path);
    } else if (mkdirat(place->folder_fd, place->name, 0750) != 0 && errno != EEXIST) {
        return error_set_errno(err, errno, "create folder %s", place->path);
    }
    bool found = false;
    struct stat st = { 0 };
    if (!held_path_stat(place, &found, &st, err))
        return false;
    if (found && (as_file ? S_ISREG(st.st_mode) : S_ISDIR(st.st_mode)))
        return true;
    return error_set(err, ERROR_FAILED_PRECONDITION, "%s exists, but is not a %s", place->path,
                     as_file ? "regular file" : "folder");
}

bool held_path_remove(const struct held_path *place, struct error *err)
{
    bool found = false;
    struct stat st = { 0 };

    if (!held_path_stat(place, &found, &st, err))
        return false;
    if (!found)
        return true;
    bool is_folder = S_ISDIR(st.st_mode);
    if (!is_folder && !(S_ISREG(st.st_mode) && st.st_size == 0))
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "%s is neither a folder nor an empty file, so it was not removed",
                         place->path);
    if (unlinkat(place->folder_fd, place->name, is_folder ? AT_REMOVEDIR : 0) == 0 ||
        errno == ENOENT)
        return true;
    int code = errno;
    error_set_errno(err, code, "remove %s", place->path);
    if (code == ENOTEMPTY || code == EEXIST)
        err->code = ERROR_FAILED_PRECONDITION;
    return false;
}

static bool is_empty_folder(int fd)
{
    auto_close int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    auto_dir DIR *folder = copy < 0 ? NULL : fdopendir(copy);

    if (!folder)
        return false;
    (void)TAKE_FD(copy);
    errno = 0;
    for (const struct dirent *e; (e = readdir(folder));) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            return false;
    }
    return errno == 0;
}

static bool refuse_mounted(const struct held_path *place, struct error *err)
{
    return error_set(err, ERROR_FAILED_PRECONDITION, "something else is mounted at %s",
                     place->path);
}

bool held_path_check_unmounted(const struct held_path *place, struct error *err)
{
    auto_close int fd =
        open_beneath(place->folder_fd, place->name, O_PATH | O_NOFOLLOW, RESOLVE_NO_XDEV);

    if (fd < 0 && errno == EXDEV)
        return refuse_mounted(place, err);
    return fd >= 0 || errno == ENOENT || errno == ELOOP ||
           error_set_errno(err, errno, "%s", place->path);
}

bool held_path_open_target(const struct held_path *place, int *out_fd, struct error *err)
{
    auto_close int fd = open_beneath(place->folder_fd, place->name, O_PATH, RESOLVE_NO_XDEV);
    struct stat st;

    if (fd < 0 && errno == EXDEV)
        return refuse_mounted(place, err);
    if (fd < 0 || fstat(fd, &st) != 0)
        return error_set_errno(err, errno, "%s", place->path);
    bool is_empty =
        S_ISDIR(st.st_mode) ? is_empty_folder(fd) : S_ISREG(st.st_mode) && st.st_size == 0;
    if (!is_empty)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "%s is neither an empty folder nor an empty file, so nothing is mounted "
                         "over it",
                         place->path);
    *out_fd = TAKE_FD(fd);
    return true;
}

bool held_path_is_same(const struct held_path *place, int fd)
{
    auto_close int again = open_beneath(place->folder_fd, place->name, O_PATH, RESOLVE_NO_XDEV);
    struct stat a, b;

    return again >= 0 && fstat(fd, &a) == 0 && fstat(again, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

bool held_path_open_fd(const struct held_path *place, int *out_fd, struct error *err)
{
    int fd = open_beneath(place->folder_fd, place->name, O_PATH, 0);

    if (fd < 0)
        return error_set_errno(err, errno, "%s", place->path);
    *out_fd = fd;
    return true;
}

bool held_path_open_folder(const struct held_path *place, int *out_fd)
{
    *out_fd = open_beneath(place->folder_fd, place->name, O_RDONLY | O_DIRECTORY, 0);
    return *out_fd >= 0;
}
