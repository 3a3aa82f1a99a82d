/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/vm/steps.h"

#include "base/file.h"
#include "base/process.h"
#include "crypt/layer.h"
#include "crypt/volume.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct front front;

void must(const struct block_request *request, struct block_result *result)
{
    struct error err = ERROR_INIT;

    if (!front_call(&front, request, result, &err))
        fail_msg("operation %u: %s %s: %s", request->operation, error_code_name(err.code),
                 err.reason, err.text);
}

void refused(const struct block_request *request, enum error_code code)
{
    struct error err = ERROR_INIT;
    bool done = front_call(&front, request, NULL, &err);

    if (done || err.code != code)
        print_message("operation %u: %s: %s\n", request->operation, error_code_name(err.code),
                      err.text);
    assert_false(done);
    assert_string_equal(error_code_name(code), error_code_name(err.code));
}

struct block_request *with_path(struct block_request *request, const char *path)
{
    (void)snprintf(request->path, sizeof(request->path), "%s", front_path(&front, path));
    return request;
}

static const char *stage_path(const char *volume_id)
{
    static char path[64];

    (void)snprintf(path, sizeof(path), "mnt/stage-%s", volume_id);
    return path;
}

struct block_request *stage_request(const char *volume_id)
{
    struct block_request *request =
        with_path(front_request(BLOCK_STAGE, volume_id), stage_path(volume_id));

    (void)snprintf(request->fs_type, sizeof(request->fs_type), "%s",
                   front_record(&front, volume_id)->spec.fs_type);
    return request;
}

struct block_request *unstage_request(const char *volume_id)
{
    return with_path(front_request(BLOCK_UNSTAGE, volume_id), stage_path(volume_id));
}

struct block_request *publish_request(const char *volume_id, const char *path)
{
    struct block_request *request = with_path(front_request(BLOCK_PUBLISH, volume_id), path);

    (void)snprintf(request->path2, sizeof(request->path2), "%s",
                   front_path(&front, stage_path(volume_id)));
    (void)snprintf(request->fs_type, sizeof(request->fs_type), "%s",
                   front_record(&front, volume_id)->spec.fs_type);
    return request;
}

void create(const char *volume_id, enum integrity integrity, const char *fs_type,
            uint64_t size_bytes)
{
    front_add(&front, volume_id, integrity, fs_type, size_bytes);
    struct block_request *request = front_request(BLOCK_CREATE, volume_id);
    request->size_bytes = front_record(&front, volume_id)->spec.device_bytes;
    must(request, NULL);
}

void simple(enum block_operation operation, const char *volume_id, const char *path)
{
    struct block_request *request = with_path(front_request(operation, volume_id), path);

    must(request, NULL);
}

void write_text(const char *path, const char *text)
{
    struct error err = ERROR_INIT;

    if (!file_write(front_path(&front, path), 0600, text, strlen(text), &err))
        fail_msg("%s", err.text);
}

void expect_text(const char *path, const char *text)
{
    struct error err = ERROR_INIT;
    auto_free char *bytes = NULL;
    size_t len = 0;

    if (!file_read(front_path(&front, path), 4096, &bytes, &len, &err))
        fail_msg("%s", err.text);
    assert_string_equal(text, bytes);
}

unsigned count_in(const char *folder, const char *prefix)
{
    unsigned n = 0;
    DIR *stream = opendir(folder);

    for (const struct dirent *e; stream && (e = readdir(stream));)
        n += strncmp(e->d_name, prefix, strlen(prefix)) == 0 && e->d_name[0] != '.';
    if (stream)
        closedir(stream);
    return n;
}

static unsigned count_loops(void)
{
    unsigned n = 0;

    for (int i = 0; i < 64; i++) {
        char path[64];

        (void)snprintf(path, sizeof(path), "/sys/block/loop%d/loop", i);
        n += access(path, F_OK) == 0;
    }
    return n;
}

static struct volume_name name_of(const char *volume_id)
{
    struct volume_name name;
    struct error err = ERROR_INIT;

    assert_true(volume_name_make("test.tdvol", volume_id, &name, &err));
    return name;
}

struct volume_device device_of(const char *volume_id)
{
    const struct volume_name name = name_of(volume_id);
    struct volume_device device;
    struct error err = ERROR_INIT;
    bool found = false;

    assert_true(volume_find(&name, &found, &device, &err) && found);
    return device;
}

unsigned loaded_layers(const char *volume_id)
{
    const struct volume_name name = name_of(volume_id);
    struct error err = ERROR_INIT;
    unsigned found = 0;

    for (enum layer layer = LAYER_TOP; layer < LAYER_COUNT; layer++) {
        struct table_info info;

        assert_true(layer_info(&name, layer, &info, &err));
        found |= (unsigned)info.has_loaded << layer;
    }
    return found;
}

void wait_for_workers(void)
{
    unsigned idle = 0;

    /* For a moment there is no child, between a worker that died and the one that recovers. */
    for (int i = 0; i < 250 && idle < 3; i++) {
        idle = front_worker(&front) ? 0 : idle + 1;
        usleep(20000);
    }
    assert_int_equal(3, idle);
}

void expect_nothing_left(void)
{
    assert_int_equal(0, count_in("/dev/mapper", "tdvol-"));
    assert_int_equal(0, count_in("/dev/mapper", "temporary-"));
    assert_int_equal(0, count_in("/dev/mapper", "left-"));
    assert_int_equal(0, count_loops());
    const char *state = front_path(&front, "state"); /* what brokers have shown may stay */
    assert_int_equal(count_in(state, "brokers."), count_in(state, ""));
    wait_for_workers(); /* a worker ends a moment after its answer */
}

int steps_start(void **state)
{
    (void)state;
    front_start(&front);
    return 0;
}

int steps_end(void **state)
{
    (void)state;
    front_end(&front);
    return 0;
}

pid_t start_agent(void)
{
    return start_agent_that(NULL);
}

pid_t start_agent_that(bool (*does)(void))
{
    int ready[2];
    char byte = 0;

    assert_int_equal(0, pipe2(ready, O_CLOEXEC));
    pid_t pid = fork();
    if (pid == 0) {
        /* Nothing of the front's: a watcher ends when all have closed its socket. */
        bool ok = (ready[1] == 3 || close_range(3, (unsigned)ready[1] - 1, 0) == 0) &&
                  close_range((unsigned)ready[1] + 1, ~0U, 0) == 0 &&
                  prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && unshare(CLONE_NEWNS) == 0 &&
                  mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 && (!does || does()) &&
                  write(ready[1], "", 1) == 1;

        if (!ok)
            _exit(1);
        for (;;)
            pause();
    }
    close(ready[1]);
    assert_int_equal(1, read(ready[0], &byte, 1));
    close(ready[0]);
    return pid;
}

void end_agent(pid_t agent)
{
    assert_int_equal(0, kill(agent, SIGKILL));
    assert_int_equal(agent, waitpid(agent, NULL, 0));
}

void steps_set_fault(const char *rule)
{
    struct error err = ERROR_INIT;

    unlink(STEPS_FAULT_FILE);
    if (rule && !file_write(STEPS_FAULT_FILE, 0600, rule, strlen(rule), &err))
        fail_msg("%s", err.text);
}

void stage_with_file(const char *volume_id, enum integrity integrity)
{
    char path[64];

    create(volume_id, integrity, "ext4", 32 * MIB);
    must(stage_request(volume_id), NULL);
    (void)snprintf(path, sizeof(path), "mnt/stage-%s/file", volume_id);
    write_text(path, "hello");
}
