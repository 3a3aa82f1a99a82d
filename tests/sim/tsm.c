/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/command.h"
#include "tests/sim/td_file.h"
#include "tests/sim/tsm_store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FUSE_USE_VERSION 31
#include <fuse3/fuse.h>

/* The store of tests/sim/tsm_store.c as a file system. One thread answers requests in their order, so
 * that a program that has closed a file sees the effect. */

static struct tsm *the_store(void)
{
    return fuse_get_context()->private_data;
}

/* "/DIR/NAME" in its two words; both are empty for "/", only name is empty for "/DIR". */
struct place {
    char dir[TSM_NAME_MAX + 1], name[TSM_NAME_MAX + 1];
};

static int split(const char *path, struct place *out)
{
    const char *dir = path + 1, *slash = strchr(dir, '/');
    size_t dir_len = slash ? (size_t)(slash - dir) : strlen(dir);
    const char *name = slash ? slash + 1 : "";

    if (dir_len > TSM_NAME_MAX || strlen(name) > TSM_NAME_MAX)
        return -ENAMETOOLONG;
    (void)snprintf(out->dir, sizeof(out->dir), "%.*s", (int)dir_len, dir);
    (void)snprintf(out->name, sizeof(out->name), "%s", name);
    return strchr(name, '/') ? -ENOTDIR : 0;
}

static void set_stat(struct stat *out, mode_t mode, off_t size)
{
    *out = (struct stat){ .st_mode = mode,
                          .st_nlink = S_ISDIR(mode) ? 2 : 1,
                          .st_uid = getuid(),
                          .st_gid = getgid(),
                          .st_size = size };
}

static int stat_attribute(const char *name, struct stat *out)
{
    struct tsm_stat found = tsm_attribute(0);

    for (size_t i = 0; found.name; found = tsm_attribute(++i))
        if (strcmp(found.name, name) == 0) {
            set_stat(out, S_IFREG | found.mode, found.size);
            return 0;
        }
    return -ENOENT;
}

/* libfuse keeps file handles as numbers. */
static struct tsm_file *file_of(const struct fuse_file_info *fi)
{
    return (struct tsm_file *)(uintptr_t)fi->fh;
}

static int do_getattr(const char *path, struct stat *out, struct fuse_file_info *fi)
{
    struct place p;

    if (fi && fi->fh != 0) {
        struct tsm_stat open_file = tsm_file_stat(file_of(fi));

        set_stat(out, S_IFREG | open_file.mode, open_file.size);
        return 0;
    }
    int rc = path ? split(path, &p) : -ENOENT;
    if (rc != 0)
        return rc;
    if (p.name[0] == '\0' && strcmp(p.dir, TSM_CONTROL) == 0) {
        set_stat(out, S_IFREG | 0600, 0);
        return 0;
    }
    if (p.dir[0] != '\0' && !tsm_is_dir(the_store(), p.dir))
        return -ENOENT;
    if (p.name[0] != '\0')
        return stat_attribute(p.name, out);
    set_stat(out, S_IFDIR | 0755, 0);
    return 0;
}

/* Where readdir puts names; full once the kernel's buffer is. */
struct listing {
    void *buffer;
    fuse_fill_dir_t fill;
};

static bool list_name(void *cookie, const char *name)
{
    const struct listing *l = cookie;

    return l->fill(l->buffer, name, NULL, 0, 0) == 0;
}

static int do_readdir(const char *path, void *buffer, fuse_fill_dir_t fill, off_t offset UNUSED,
                      struct fuse_file_info *fi UNUSED, enum fuse_readdir_flags flags UNUSED)
{
    struct listing l = { buffer, fill };
    struct tsm_stat file = tsm_attribute(0);
    struct place p;
    int rc = path ? split(path, &p) : -ENOENT;

    if (rc != 0)
        return rc;
    (void)list_name(&l, ".");
    (void)list_name(&l, "..");
    if (p.dir[0] == '\0') {
        (void)list_name(&l, TSM_CONTROL);
        tsm_walk(the_store(), list_name, &l);
        return 0;
    }
    for (size_t i = 0; file.name; file = tsm_attribute(++i))
        (void)list_name(&l, file.name);
    return 0;
}

static int do_mkdir(const char *path, mode_t mode UNUSED)
{
    struct place p;
    int rc = split(path, &p);

    if (rc != 0)
        return rc;
    return p.name[0] == '\0' ? tsm_mkdir(the_store(), p.dir) : -EPERM;
}

static int do_rmdir(const char *path)
{
    struct place p;
    int rc = split(path, &p);

    return rc == 0 ? tsm_rmdir(the_store(), p.dir) : rc;
}

static int do_unlink(const char *path UNUSED)
{
    return -EPERM;
}

static int do_rename(const char *from UNUSED, const char *to UNUSED, unsigned flags UNUSED)
{
    return -EPERM;
}

static int do_create(const char *path UNUSED, mode_t mode UNUSED, struct fuse_file_info *fi UNUSED)
{
    return -EACCES;
}

static int do_open(const char *path, struct fuse_file_info *fi)
{
    struct tsm_file *file = NULL;
    struct place p;
    int rc = split(path, &p);

    if (rc != 0)
        return rc;
    bool in_root = p.name[0] == '\0';
    rc = tsm_open(the_store(), in_root ? "" : p.dir, in_root ? p.dir : p.name,
                  fi->flags & O_ACCMODE, &file);
    if (rc != 0)
        return rc;
    fi->fh = (uint64_t)(uintptr_t)file;
    fi->direct_io = 1; /* sizes are not known before they are read */
    return 0;
}

static int do_truncate(const char *path UNUSED, off_t size UNUSED, struct fuse_file_info *fi UNUSED)
{
    return 0; /* configfs accepts O_TRUNC and ignores it */
}

static int do_read(const char *path UNUSED, char *out, size_t len, off_t offset,
                   struct fuse_file_info *fi)
{
    return tsm_read(file_of(fi), out, len, offset);
}

static int do_write(const char *path UNUSED, const char *bytes, size_t len, off_t offset,
                    struct fuse_file_info *fi)
{
    return tsm_write(file_of(fi), bytes, len, offset);
}

static int do_release(const char *path UNUSED, struct fuse_file_info *fi)
{
    tsm_release(file_of(fi));
    return 0;
}

/* Nothing is cached: directories come and go, and open files outlive them. */
static void *do_init(struct fuse_conn_info *connection UNUSED, struct fuse_config *config)
{
    config->entry_timeout = config->negative_timeout = config->attr_timeout = 0;
    config->hard_remove = 1;
    config->nullpath_ok = 0;
    return fuse_get_context()->private_data;
}

static const struct fuse_operations operations = {
    .init = do_init,
    .getattr = do_getattr,
    .readdir = do_readdir,
    .mkdir = do_mkdir,
    .rmdir = do_rmdir,
    .unlink = do_unlink,
    .rename = do_rename,
    .create = do_create,
    .open = do_open,
    .truncate = do_truncate,
    .read = do_read,
    .write = do_write,
    .release = do_release,
};

struct tsm_command_options {
    const char *pki, *td, *fault;
    uint64_t latency_ms;
};

static const struct option table[] = {
    OPTION_TEXT_ROW("pki", struct tsm_command_options, pki, "DIR",
                    "Folder made by tdvol-sim pki; the machine's key is kept there too.",
                    .required = true),
    OPTION_TEXT_ROW("td", struct tsm_command_options, td, "FILE",
                    "JSON file that describes the TD; default: a TD without debug."),
    OPTION_U64_ROW("latency-ms", struct tsm_command_options, latency_ms, 0, 600000, "MS",
                   "Time that a quote takes; real ones take about 1000. Default: 0."),
    OPTION_TEXT_ROW("fault", struct tsm_command_options, fault, "NAME[=COUNT]",
                    "Fault to simulate, COUNT times or until changed."),
};

struct guest {
    struct sim_machine *machine;
    struct sim_td td;
};

static size_t quote_of(void *cookie, const uint8_t report_data[static REPORT_DATA_LEN], bool debug,
                       uint8_t *out)
{
    const struct guest *guest = cookie;
    struct sim_td td = guest->td;

    if (debug)
        td.td_attributes |= TD_ATTRIBUTE_DEBUG;
    memcpy(td.report_data, report_data, REPORT_DATA_LEN);
    return sim_quote(guest->machine, &td, &sim_quoting_default, out);
}

/* Serves until SIGTERM, SIGINT, or until another program unmounts it. */
static bool serve(struct tsm *store, const char *mount_point, struct error *err)
{
    char name[] = "tdvol-sim", mount_options[] = "-ofsname=tdvol-sim,subtype=tsm";
    char *arguments[] = { name, mount_options };
    struct fuse_args args = FUSE_ARGS_INIT((int)ARRAY_LEN(arguments), arguments);
    struct fuse *fuse = fuse_new(&args, &operations, sizeof(operations), store);
    bool ok = false;

    fuse_opt_free_args(&args);
    if (!fuse)
        return error_set(err, ERROR_INTERNAL, "cannot start libfuse");
    if (fuse_mount(fuse, mount_point) != 0) {
        fuse_destroy(fuse);
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "cannot mount on %s: is it a folder, is there /dev/fuse, is this root?",
                         mount_point);
    }
    struct fuse_session *session = fuse_get_session(fuse);
    if (fuse_set_signal_handlers(session) == 0) {
        printf("mounted on %s\n", mount_point);
        (void)fflush(stdout);
        ok = fuse_loop(fuse) >= 0;
        fuse_remove_signal_handlers(session);
    }
    fuse_unmount(fuse);
    fuse_destroy(fuse);
    return ok || error_set(err, ERROR_INTERNAL, "libfuse stopped serving %s", mount_point);
}

static bool run(int argc, char *const *argv, struct error *err)
{
    struct tsm_command_options options = { .td = NULL };
    struct option_list rest = { .n = 0 };
    const char *mount_point = NULL;
    auto_td_file struct td_file file = { .event_log = NULL };

    if (!option_parse(table, ARRAY_LEN(table), &options, argc, argv, &rest, err) ||
        !command_one_argument(&rest, "folder to mount on", &mount_point, err) ||
        !td_file_read(options.td, &file, err))
        return false;
    struct guest guest = { sim_machine_kept(options.pki, &file.platform), file.td };
    const struct tsm_options store_options = { quote_of, &guest, options.latency_ms };
    struct tsm *store = tsm_new(&store_options);
    bool ok = store || error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory");

    ok = ok && (!options.fault || tsm_set_fault(store, options.fault, strlen(options.fault), err));
    ok = ok && serve(store, mount_point, err);
    tsm_free(store);
    sim_machine_free(guest.machine);
    return ok;
}

const struct command command_tsm = {
    .name = "tsm",
    .usage = "MOUNTPOINT --pki DIR [OPTIONS]",
    .help = "mount a TD's /sys/kernel/config/tsm/report",
    .lesson =
        "Mounts a file system that behaves as Linux does in a TD, in the foreground, until SIGTERM:\n"
        "mkdir makes a request. Data written to its inblob counts when the file is closed; generation\n"
        "shows whether it was accepted. outblob has the quote. rmdir removes the request.\n"
        "\n"
        "Writing NAME or NAME=COUNT to MOUNTPOINT/.control sets the fault from then on;\n"
        "reading it gives the fault.\n"
        "\n" TD_FILE_LESSON,
    .table = table,
    .n = ARRAY_LEN(table),
    .print_faults = tsm_print_faults,
    .run = run,
};
