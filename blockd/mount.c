/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/mount.h"

#include "base/file.h"
#include "base/option.h"
#include "blockd/kubelet.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libmount/libmount.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define STACKED_MAX 64

/* Option words that do not go to the file system. */
enum word_kind {
    WORD_ATTRIBUTE, /* of this mount */
    WORD_BOTH,      /* of the mount and of the file system: ro, rw */
    WORD_IGNORED,   /* for fstab readers */
    WORD_REFUSED,   /* would change what or where is mounted, or name another device */
};
static const struct word {
    const char *name;
    enum word_kind kind;
    uint64_t set, clear;
} words[] = {
    { "ro", WORD_BOTH, MOUNT_ATTR_RDONLY, 0 },
    { "rw", WORD_BOTH, 0, MOUNT_ATTR_RDONLY },
    { "nosuid", WORD_ATTRIBUTE, MOUNT_ATTR_NOSUID, 0 },
    { "suid", WORD_ATTRIBUTE, 0, MOUNT_ATTR_NOSUID },
    { "nodev", WORD_ATTRIBUTE, MOUNT_ATTR_NODEV, 0 },
    { "dev", WORD_ATTRIBUTE, 0, MOUNT_ATTR_NODEV },
    { "noexec", WORD_ATTRIBUTE, MOUNT_ATTR_NOEXEC, 0 },
    { "exec", WORD_ATTRIBUTE, 0, MOUNT_ATTR_NOEXEC },
    { "noatime", WORD_ATTRIBUTE, MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME },
    { "strictatime", WORD_ATTRIBUTE, MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME },
    { "relatime", WORD_ATTRIBUTE, MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME },
    { "atime", WORD_ATTRIBUTE, MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME },
    { "nodiratime", WORD_ATTRIBUTE, MOUNT_ATTR_NODIRATIME, 0 },
    { "diratime", WORD_ATTRIBUTE, 0, MOUNT_ATTR_NODIRATIME },
    { "defaults", WORD_IGNORED, 0, 0 },
    { "auto", WORD_IGNORED, 0, 0 },
    { "noauto", WORD_IGNORED, 0, 0 },
    { "nofail", WORD_IGNORED, 0, 0 },
    { "_netdev", WORD_IGNORED, 0, 0 },
    { "bind", WORD_REFUSED, 0, 0 },
    { "rbind", WORD_REFUSED, 0, 0 },
    { "remount", WORD_REFUSED, 0, 0 },
    { "move", WORD_REFUSED, 0, 0 },
    { "loop", WORD_REFUSED, 0, 0 },
    { "offset", WORD_REFUSED, 0, 0 },
    { "source", WORD_REFUSED, 0, 0 },
    { "shared", WORD_REFUSED, 0, 0 },
    { "slave", WORD_REFUSED, 0, 0 },
    { "private", WORD_REFUSED, 0, 0 },
    { "unbindable", WORD_REFUSED, 0, 0 },
    { "journal_dev", WORD_REFUSED, 0, 0 },
    { "journal_path", WORD_REFUSED, 0, 0 },
    { "logdev", WORD_REFUSED, 0, 0 },
    { "rtdev", WORD_REFUSED, 0, 0 },
};

static const struct word *find_word(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (strcmp(words[i].name, name) == 0)
            return &words[i];
    }
    return NULL;
}

/* Copies text into options->text, without the quotes around it. NULL when a quote is missing or
 * options->text is full. */
static const char *keep(struct mount_options *options, size_t *used, const char *text, size_t len)
{
    if (len > 0 && text[0] == '"') {
        if (len < 2 || text[len - 1] != '"')
            return NULL;
        text++;
        len -= 2;
    }
    if (sizeof(options->text) - *used <= len)
        return NULL;
    char *copy = options->text + *used;
    for (size_t i = 0; i < len; i++)
        copy[i] = text[i];
    copy[len] = 0;
    *used += len + 1;
    return copy;
}

static bool append(struct mount_options *options, const char *name, const char *value,
                   struct error *err)
{
    if (options->n == MOUNT_OPTIONS_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "more than %d mount options",
                         MOUNT_OPTIONS_MAX);
    options->items[options->n++] = (struct mount_option){ .name = name, .value = value };
    return true;
}

static bool add_option(struct mount_options *options, const char *name, const char *value,
                       struct error *err)
{
    const struct word *word = find_word(name);

    if (strncasecmp(name, "x-", 2) == 0 || (word && word->kind == WORD_IGNORED))
        return true;
    if (word && (word->kind == WORD_REFUSED || value))
        return error_set(err, ERROR_INVALID_ARGUMENT, "mount option \"%s\" is not allowed", name);
    if (word) {
        options->attributes = (options->attributes & ~word->clear) | word->set;
        if (word->kind == WORD_BOTH)
            options->read_only = word->set != 0;
        return true;
    }
    options->has_wishes = true;
    return append(options, name, value, err);
}

bool mount_options_add(struct mount_options *options, const char *name, struct error *err)
{
    return append(options, name, NULL, err);
}

/* libmount silently drops the text after a quote that is never closed. */
static bool has_open_quote(const char *text)
{
    bool open = false;

    for (; *text; text++)
        open ^= *text == '"';
    return open;
}

bool mount_options_parse(const char *text, struct mount_options *out, struct error *err)
{
    char copy[4096];
    int len = snprintf(copy, sizeof(copy), "%s", text);

    if (len < 0 || (size_t)len >= sizeof(copy))
        return error_set(err, ERROR_INVALID_ARGUMENT, "mount options are longer than 4095 bytes");
    *out = (struct mount_options){ .n = 0 };
    size_t used = 0, name_len = 0, value_len = 0;
    char *next = copy, *name = NULL, *value = NULL;
    int rc;
    while ((rc = mnt_optstr_next_option(&next, &name, &name_len, &value, &value_len)) == 0) {
        const char *kept_name = keep(out, &used, name, name_len);
        const char *kept_value = value ? keep(out, &used, value, value_len) : NULL;

        if (!kept_name || (value && !kept_value))
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "mount options are too long or a quote is missing");
        if (!add_option(out, kept_name, kept_value, err))
            return false;
    }
    if (rc < 0 || has_open_quote(text))
        return error_set(err, ERROR_INVALID_ARGUMENT, "mount options are malformed");
    return true;
}

static void table_drop(struct libmnt_table **table)
{
    mnt_unref_table(*table);
    *table = NULL;
}

static bool read_table(const char *mountinfo, struct libmnt_table **out, struct error *err)
{
    errno = 0;
    *out = mnt_new_table_from_file(mountinfo);
    if (!*out)
        return error_set_errno(err, errno ? errno : EIO, "read %s", mountinfo);
    return true;
}

static bool has_flag(const char *options, const char *name)
{
    return options && mnt_optstr_get_option(options, name, NULL, NULL) == 0;
}

/* A device node that is bound to a file appears in mountinfo as a mount of devtmpfs with the node
 * as its root. The kernel marks a node that was removed meanwhile. */
static void take_root_name(const char *root, char out[static NAME_MAX + 1])
{
    static const char removed[] = "//deleted";
    size_t len = root ? strlen(root) : 0;

    if (len >= strlen(removed) && strcmp(root + len - strlen(removed), removed) == 0)
        len -= strlen(removed);
    size_t start = len;
    while (start > 0 && root[start - 1] != '/')
        start--;
    (void)snprintf(out, NAME_MAX + 1, "%.*s", (int)(len - start), len ? root + start : "");
}

static void fill_entry(struct libmnt_fs *fs, struct mount_entry *out)
{
    const char *type = mnt_fs_get_fstype(fs);

    out->device = mnt_fs_get_devno(fs);
    /* Newer kernels say emergency_ro when they give up writing. */
    out->fs_read_only = has_flag(mnt_fs_get_fs_options(fs), "ro") ||
                        has_flag(mnt_fs_get_fs_options(fs), "emergency_ro");
    out->read_only = out->fs_read_only || has_flag(mnt_fs_get_vfs_options(fs), "ro");
    (void)snprintf(out->fs_type, sizeof(out->fs_type), "%s", type ? type : "");
    take_root_name(mnt_fs_get_root(fs), out->root_name);
}

bool mount_is_node(const struct mount_entry *entry, dev_t device, const char *node_name)
{
    char kernel_name[32];

    (void)snprintf(kernel_name, sizeof(kernel_name), "dm-%u", minor(device));
    return strcmp(entry->root_name, node_name) == 0 ||
           (device != 0 && strcmp(entry->root_name, kernel_name) == 0);
}

bool mount_is_of(const struct mount_entry *entry, const struct mount_owner *owner)
{
    return (owner->device != 0 && entry->device == owner->device) ||
           mount_is_node(entry, owner->device, owner->node_name);
}

bool mount_find(const char *mountinfo, const char *path, bool *found, struct mount_entry *out,
                struct error *err)
{
    CLEANUP(table_drop) struct libmnt_table *table = NULL;

    if (!read_table(mountinfo, &table, err))
        return false;
    /* Without a cache libmount only compares text, so it never looks up a path on a dead mount. */
    struct libmnt_fs *fs = mnt_table_find_target(table, path, MNT_ITER_BACKWARD);
    *found = fs != NULL;
    if (fs)
        fill_entry(fs, out);
    return true;
}

static bool is_in(const char *path, const char *const *list)
{
    while (*list && strcmp(*list, path) != 0)
        list++;
    return *list != NULL;
}

static bool is_user(struct libmnt_fs *fs, const struct mount_search *search)
{
    const char *target = mnt_fs_get_target(fs);
    struct mount_entry entry;

    if (!target || is_in(target, search->except) ||
        (search->target && kubelet_is_same_pod(search->target, target)) ||
        (search->staging_path && kubelet_is_own_place(target, search->staging_path)))
        return false;
    fill_entry(fs, &entry);
    return entry.device == search->device ||
           mount_is_node(&entry, search->device, search->node_name);
}

bool mount_find_user(const char *mountinfo, const struct mount_search *search, bool *found,
                     char path[static PATH_MAX], struct error *err)
{
    CLEANUP(table_drop) struct libmnt_table *table = NULL;

    if (!read_table(mountinfo, &table, err))
        return false;
    struct libmnt_iter *iter = mnt_new_iter(MNT_ITER_FORWARD);
    if (!iter)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory");
    struct libmnt_fs *fs = NULL;
    *found = false;
    while (!*found && mnt_table_next_fs(table, iter, &fs) == 0) {
        *found = is_user(fs, search);
        if (*found)
            (void)snprintf(path, PATH_MAX, "%s", mnt_fs_get_target(fs));
    }
    mnt_free_iter(iter);
    return true;
}

/* The pod's uid is in the name of its control group; with systemd it has "_" for "-". */
static void find_pod(int pid, char out[static KUBELET_UID_LEN + 1])
{
    char path[64];
    auto_free char *text = NULL;
    size_t len = 0;
    struct error ignored = ERROR_INIT;

    out[0] = 0;
    (void)snprintf(path, sizeof(path), "/proc/%d/cgroup", pid);
    if (file_read(path, 65536, &text, &len, &ignored))
        (void)kubelet_pod_of_cgroup(text, out);
}

static void describe_holder(int pid, const char *at, char out[static MOUNT_HOLDER_LEN])
{
    char path[64], uid[KUBELET_UID_LEN + 1];
    auto_free char *name = NULL;
    size_t len = 0;
    struct error ignored = ERROR_INIT;

    find_pod(pid, uid);
    (void)snprintf(path, sizeof(path), "/proc/%d/comm", pid);
    if (!file_read(path, 64, &name, &len, &ignored))
        len = 0;
    for (size_t i = 0; i < len; i++) {
        if (name[i] <= ' ' || name[i] >= 0x7f)
            name[i] = ' ';
    }
    while (len > 0 && name[len - 1] == ' ')
        len--;
    (void)snprintf(out, MOUNT_HOLDER_LEN, "%s%s%sprocess %d (%.*s) at %.150s", uid[0] ? "pod " : "",
                   uid, uid[0] ? ", " : "", pid, (int)len, name ? name : "", at);
}

bool mount_find_holder(const struct mount_search *search, char out[static MOUNT_HOLDER_LEN])
{
    auto_dir DIR *proc = opendir("/proc");

    for (const struct dirent *e; proc && (e = readdir(proc));) {
        char mountinfo[64], at[PATH_MAX];
        uint64_t pid = 0;
        bool found = false;
        struct error ignored = ERROR_INIT; /* the process may have ended */

        if (!parse_u64(e->d_name, &pid) || pid > INT_MAX)
            continue;
        (void)snprintf(mountinfo, sizeof(mountinfo), "/proc/%d/mountinfo", (int)pid);
        if (!mount_find_user(mountinfo, search, &found, at, &ignored) || !found)
            continue;
        describe_holder((int)pid, at, out);
        return true;
    }
    return false;
}

/* The descriptor's log has the kernel's reason; the errno alone is mostly EINVAL. Each read gives one
 * message, after a letter for its level: "e EXT4-fs: ...". An error says more than a warning, and the
 * first error more than those that follow from it. */
static void read_messages(int fs_fd, char out[static 256])
{
    char message[256], level = 0;
    ssize_t n;

    out[0] = 0;
    while (level != 'e' && (n = read(fs_fd, message, sizeof(message) - 1)) > 0) {
        message[n] = 0;
        bool has_level = n > 2 && message[1] == ' ';
        if (level == 'w' && has_level && message[0] == 'i')
            continue;
        level = 'e';
        if (has_level)
            level = message[0];
        (void)snprintf(out, 256, "%.*s", (int)strcspn(message, "\n"),
                       message + (has_level ? 2 : 0));
        out[strcspn(out, "\n")] = 0;
    }
}

static bool mount_failed(int fs_fd, int code, const char *what, struct error *err)
{
    char message[256];

    read_messages(fs_fd, message);
    error_set_errno(err, code, "%s%s%s", what, message[0] ? ": " : "", message);
    if (code == EIO || code == EILSEQ) {
        err->code = ERROR_DATA_LOSS;
        error_reason(err, "DataUnreadable");
    }
    return false;
}

static bool set_options(int fs_fd, const struct mount_options *options, struct error *err)
{
    if (options->read_only && fsconfig(fs_fd, FSCONFIG_SET_FLAG, "ro", NULL, 0) != 0)
        return mount_failed(fs_fd, errno, "mount option ro", err);
    for (size_t i = 0; i < options->n; i++) {
        const struct mount_option *o = &options->items[i];

        if (fsconfig(fs_fd, o->value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, o->name, o->value,
                     0) == 0)
            continue;
        mount_failed(fs_fd, errno, o->name, err);
        err->code = ERROR_INVALID_ARGUMENT;
        return error_wrap(err, "mount option");
    }
    return true;
}

static bool attach(int mount_fd, const struct held_path *at, struct error *err)
{
    auto_close int target_fd = -1;

    if (!held_path_open_target(at, &target_fd, err))
        return false;
    if (!held_path_is_same(at, target_fd))
        return error_set(err, ERROR_ABORTED, "%s was exchanged meanwhile", at->path);
    if (move_mount(mount_fd, "", target_fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH))
        return error_set_errno(err, errno, "mount at %s", at->path);
    return true;
}

bool mount_device(const char *device_path, const char *fs_type, const struct mount_options *options,
                  const struct held_path *at, struct error *err)
{
    auto_close int fs_fd = fsopen(fs_type, FSOPEN_CLOEXEC);

    if (fs_fd < 0)
        return error_set_errno(err, errno, "the kernel has no file system %s", fs_type);
    if (fsconfig(fs_fd, FSCONFIG_SET_STRING, "source", device_path, 0) != 0)
        return mount_failed(fs_fd, errno, "mount source", err);
    if (!set_options(fs_fd, options, err))
        return false;
    if (fsconfig(fs_fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0) != 0) {
        int code = errno;

        mount_failed(fs_fd, code, "mount", err);
        /* File systems check some options only now. */
        if (code != EINVAL || !options->has_wishes)
            return false;
        err->code = ERROR_INVALID_ARGUMENT;
        return error_wrap(err, "%s refuses a mount option, see the kernel's log", fs_type);
    }
    auto_close int mount_fd = fsmount(fs_fd, FSMOUNT_CLOEXEC, (unsigned)options->attributes);
    if (mount_fd < 0)
        return mount_failed(fs_fd, errno, "mount", err);
    return attach(mount_fd, at, err);
}

bool mount_sync(const char *device_path, const char *fs_type, struct error *err)
{
    auto_close int fs_fd = fsopen(fs_type, FSOPEN_CLOEXEC);

    /* Another mount of the same file system, at no place. */
    if (fs_fd < 0 || fsconfig(fs_fd, FSCONFIG_SET_STRING, "source", device_path, 0) != 0 ||
        fsconfig(fs_fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0) != 0)
        return error_set_errno(err, errno, "mount %s", device_path);
    auto_close int mount_fd = fsmount(fs_fd, FSMOUNT_CLOEXEC, 0);
    auto_close int fd =
        mount_fd < 0 ? -1 : openat(mount_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return (fd >= 0 && syncfs(fd) == 0) ||
           error_set_errno(err, errno, "flush the file system of %s", device_path);
}

bool mount_bind(int source_fd, uint64_t attributes, const struct held_path *at, struct error *err)
{
    auto_close int mount_fd =
        open_tree(source_fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);

    if (mount_fd < 0)
        return error_set_errno(err, errno, "bind mount at %s", at->path);
    struct mount_attr attr = { .attr_set = attributes };
    /* The access-time attributes are one number, not bits: the kernel wants the old one cleared. */
    if (attributes & MOUNT_ATTR__ATIME)
        attr.attr_clr = MOUNT_ATTR__ATIME;
    if (attributes && mount_setattr(mount_fd, "", AT_EMPTY_PATH, &attr, sizeof(attr)) != 0)
        return error_set_errno(err, errno, "set the attributes of the mount at %s", at->path);
    return attach(mount_fd, at, err);
}

/* One umount. *ended: nothing more of the owner's is there. */
static bool remove_one(const struct held_path *at, const struct mount_owner *owner, bool *ended,
                       struct error *err)
{
    struct mount_entry entry = { .device = 0 };
    bool mounted = false;

    if (!mount_find(MOUNTINFO, at->path, &mounted, &entry, err))
        return false;
    *ended = !mounted;
    if (*ended)
        return true;
    if (!mount_is_of(&entry, owner))
        return error_set(err, ERROR_FAILED_PRECONDITION, "something else is mounted at %s",
                         at->path);
    return umount2(at->name, UMOUNT_NOFOLLOW) == 0 ||
           error_set_errno(err, errno, "unmount %s", at->path);
}

bool mount_remove(const struct held_path *at, const struct mount_owner *owner, struct error *err)
{
    bool ended = false, done = true;

    /* Unmount by name from inside the folder: a descriptor of the mount itself would keep it busy.
     * Changing the folder is safe, as the process is a one-shot worker without threads. */
    if (fchdir(at->folder_fd) != 0)
        return error_set_errno(err, errno, "folder of %s", at->path);
    for (int i = 0; done && !ended && i < STACKED_MAX; i++)
        done = remove_one(at, owner, &ended, err);
    if (chdir("/") != 0 && done)
        return error_set_errno(err, errno, "leave the folder of the mount");
    return !done || ended
               ? done
               : error_set(err, ERROR_INTERNAL, "more than %d mounts at %s", STACKED_MAX, at->path);
}
