/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/vm/front.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/option.h"
#include "base/process.h"
#include "base/uuid.h"
#include "lifecycle/lifecycle.h"
#include "record/check.h"
#include "record/layout.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define CALL_LIMIT_MS 120000
#define CONTROL_FD    "9"
#define DRIVER        "test.tdvol"
#define NODE          "node"

const char *front_path(const struct front *front, const char *rest)
{
    static char paths[16][256];
    static unsigned next;
    char *path = paths[next++ % 16];

    (void)snprintf(path, 256, "%s/%s", front->folder, rest);
    return path;
}

/* The tdvol-blockd of the build to which this test belongs. */
static void find_program(char out[static PATH_MAX])
{
    char self[PATH_MAX - 64];
    ssize_t len = readlink("/proc/self/exe", self, sizeof(self));

    assert_true(len > 0 && (size_t)len < sizeof(self));
    while (len > 0 && self[len - 1] != '/')
        len--;
    (void)snprintf(out, PATH_MAX, "%.*s../../blockd/tdvol-blockd", (int)len, self);
}

void front_start_again(struct front *front)
{
    struct error err = ERROR_INIT;
    int ends[2];
    char program[PATH_MAX];

    find_program(program);
    assert_int_equal(0, socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends));
    const char *argv[] = { program,
                           "--control-fd",
                           CONTROL_FD,
                           "--driver-name",
                           DRIVER,
                           "--local-dir",
                           front_path(front, "local"),
                           "--state-dir",
                           front_path(front, "state"),
                           "--mount-root",
                           front_path(front, "kubelet"),
                           "--free-mount-root",
                           front_path(front, "mnt"),
                           "--upstream-dir",
                           front_path(front, "upstream"),
                           "--csi-socket",
                           front_path(front, "mnt/own.sock"),
                           "--log-format",
                           "text",
                           "--broker-ca",
                           front_path(front, "ca.crt"),
                           "--broker-name",
                           "localhost",
                           "--node-id",
                           NODE,
                           front->more[0],
                           front->more[1],
                           front->more[2],
                           front->more[3],
                           NULL };
    bool started = process_start(argv, ends[1], 9, &front->blockd, &err);
    if (!started)
        print_message("%s\n", err.text);
    assert_true(started);
    close(ends[1]);
    front->control_fd = ends[0];
}

void front_start(struct front *front)
{
    struct error err = ERROR_INIT;

    *front = (struct front){ .control_fd = -1 };
    (void)snprintf(front->folder, sizeof(front->folder), "/tmp/front.XXXXXX");
    assert_non_null(mkdtemp(front->folder));
    assert_true(file_make_dirs(front_path(front, "mnt"), 0700, &err));
    broker_end_make(&front->broker, NULL);
    assert_true(file_write(front_path(front, "ca.crt"), 0600, front->broker.ca_pem,
                           strlen(front->broker.ca_pem), &err));
    assert_true(file_make_dirs(front_path(front, "kubelet"), 0700, &err));
    front_start_again(front);
}

int front_stop(struct front *front)
{
    int status = 0;

    close_at(&front->control_fd);
    if (front->blockd <= 0)
        return 0;
    while (waitpid(front->blockd, &status, 0) < 0 && errno == EINTR)
        ;
    front->blockd = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void front_end(struct front *front)
{
    struct error err = ERROR_INIT;

    (void)front_stop(front);
    broker_end_free(&front->broker);
    const char *argv[] = { "rm", "-rf", "--one-file-system", front->folder, NULL };
    assert_true(process_must(argv, 0, 0, &err));
}

static struct front_volume *find(struct front *front, const char *volume_id)
{
    for (size_t i = 0; i < front->n_volumes; i++) {
        if (strcmp(front->volumes[i].record.volume_id, volume_id) == 0)
            return &front->volumes[i];
    }
    return NULL;
}

struct record *front_record(struct front *front, const char *volume_id)
{
    struct front_volume *volume = find(front, volume_id);

    assert_non_null(volume);
    return &volume->record;
}

static struct front_volume *add(struct front *front, const char *volume_id)
{
    struct error err = ERROR_INIT;

    assert_true(front->n_volumes < FRONT_VOLUMES_MAX);
    struct front_volume *volume = &front->volumes[front->n_volumes++];
    *volume = (struct front_volume){ .secret = { 0 } };
    (void)snprintf(volume->record.volume_id, sizeof(volume->record.volume_id), "%s", volume_id);
    (void)snprintf(volume->record.driver, sizeof(volume->record.driver), DRIVER);
    assert_true(random_bytes(volume->record.id, RECORD_ID_LEN, &err));
    assert_true(random_bytes(volume->record.key.id, RECORD_ID_LEN, &err));
    assert_true(random_bytes(volume->secret, VOLUME_SECRET_LEN, &err));
    volume->record.kind = RECORD_VOLUME;
    volume->record.version = 1;
    volume->record.key.generation = 1;
    volume->record.phase = RECORD_NEW;
    return volume;
}

void front_add(struct front *front, const char *volume_id, enum integrity integrity,
               const char *fs_type, uint64_t size_bytes)
{
    struct error err = ERROR_INIT;
    struct record *record = &add(front, volume_id)->record;

    (void)snprintf(record->spec.name, sizeof(record->spec.name), "%s", volume_id);
    record->spec.backing = BACKING_FILE;
    record->spec.integrity = integrity;
    record->spec.provisioning = PROVISIONING_THICK;
    record->spec.workqueue = WORKQUEUE_AUTO;
    (void)snprintf(record->spec.fs_type, sizeof(record->spec.fs_type), "%s", fs_type);
    assert_true(layout_plan(&record->spec, size_bytes, &err));
}

void front_add_copy(struct front *front, const char *volume_id, const char *source_id)
{
    struct front_volume *source = find(front, source_id);
    struct front_volume *copy = add(front, volume_id);
    struct record fresh = copy->record;

    assert_non_null(source);
    if (!source)
        return;
    *copy = *source;
    (void)snprintf(copy->record.volume_id, sizeof(copy->record.volume_id), "%s", volume_id);
    memcpy(copy->record.id, fresh.id, RECORD_ID_LEN);
    copy->record.origin = (struct volume_origin){ .is_set = true,
                                                  .counter_low = source->record.open_counter,
                                                  .counter_high = source->record.open_counter + 1 };
    memcpy(copy->record.origin.record_id, source->record.id, RECORD_ID_LEN);
    if (source->record.lease.holder.node[0])
        copy->record.has_clean_hash = copy->record.is_closed = false;
    copy->record.lease = (struct record_lease){ .opened_ms = 0 };
}

struct block_request *front_request(enum block_operation operation, const char *volume_id)
{
    static struct block_request ring[8];
    static unsigned next;
    struct block_request *request = &ring[next++ % ARRAY_LEN(ring)];

    *request = (struct block_request){ .operation = operation };
    (void)snprintf(request->volume_id, sizeof(request->volume_id), "%s", volume_id);
    return request;
}

int front_send(struct front *front, const struct block_request *request)
{
    struct error err = ERROR_INIT;
    int ends[2];

    assert_int_equal(0, socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends));
    assert_true(block_send_operation(front->control_fd, ends[1], &err));
    assert_true(block_send_request(ends[0], request, &err));
    return ends[0];
}

bool front_receive(struct front *front, int fd, uint32_t timeout_ms)
{
    struct error err = ERROR_INIT;
    bool received = block_receive_message(fd, clock_now_ms() + timeout_ms, &front->last, &err);

    if (!received && err.code != ERROR_CANCELLED)
        print_message("%s\n", err.text);
    return received;
}

static void seal(const struct front_volume *volume, const uint8_t *public_key,
                 struct sealed_secret *out)
{
    struct error err = ERROR_INIT;
    auto_secret struct secret secret = SECRET_INIT;

    assert_true(secret_alloc(&secret, VOLUME_SECRET_LEN, &err));
    memcpy(secret.bytes, volume->secret, VOLUME_SECRET_LEN);
    assert_true(secret_seal(&volume->record, &secret, public_key, out, &err));
}

/* The real broker's own code checks the proof and applies the change to the record. */
static bool apply(struct front *front, struct front_volume *volume, struct error *err)
{
    static struct record_change change;
    const struct relay_question *relay = &front->last.relay;
    struct record *record = &volume->record;
    struct record_open_request open = { .holder = { .node = NODE },
                                        .now_ms = clock_wall_ms(),
                                        .lease_ms = front->lease_ms,
                                        .format_ms = CALL_LIMIT_MS };
    bool changed = false, done = true;

    boot_id_text(open.holder.boot_id);
    if (front->boot_id)
        (void)snprintf(open.holder.boot_id, sizeof(open.holder.boot_id), "%s", front->boot_id);
    if (front->last.kind == BLOCK_ASK_OPEN) {
        open.read_only = front->opens_read_only;
        done = record_open(record, &open, &changed, err);
    } else if (front->last.kind == BLOCK_ASK_CHANGE) {
        assert_true(
            record_change_decode(front->last.change.bytes, front->last.change.len, &change, err));
        struct change_request request = { .change = &change,
                                          .holder = open.holder,
                                          .expected_version = relay->expected_version
                                                                  ? relay->expected_version
                                                                  : record->version,
                                          .lease_ms = front->lease_ms,
                                          .now_ms = open.now_ms };

        done = broker_end_accepts(volume->secret, record, request.expected_version, &change,
                                  relay->has_proof ? relay->proof : NULL, err) &&
               record_change(record, &request, &changed, err);
    } else if (front->renews) {
        done = record_renew(record, &open.holder, front->lease_ms, &changed, err);
    }
    record->version += done && changed;
    return done;
}

static struct answer_question question_of(const struct front *front)
{
    const struct block_message *m = &front->last;
    const uint8_t *nonce = m->relay.nonce;

    if (m->kind == BLOCK_ASK_OPEN)
        return broker_end_question(front->opens_read_only ? ANSWER_OPEN_READ_ONLY : ANSWER_OPEN,
                                   nonce, m->sealing_public_key, HPKE_PUBLIC_LEN);
    if (m->kind == BLOCK_ASK_CHANGE)
        return broker_end_question(ANSWER_CHANGE, nonce, m->change.bytes, m->change.len);
    return broker_end_question(front->renews ? ANSWER_RENEW : ANSWER_RECORD, nonce, NULL, 0);
}

static void fill_answer(struct front *front, struct front_volume *volume,
                        struct block_answer *answer)
{
    static struct record told;
    bool is_open = front->last.kind == BLOCK_ASK_OPEN;
    const struct answer_question question = question_of(front);

    answer->ok = apply(front, volume, &answer->err);
    if (!answer->ok)
        return;
    if (is_open)
        seal(volume, front->last.sealing_public_key, &answer->secret);
    told = volume->record;
    told.format.remaining_ms = told.phase == RECORD_FORMATTING ? CALL_LIMIT_MS : 0;
    if (is_open && front->recovery && told.phase == RECORD_FORMATTING) {
        told.recovery.certificate_len = (uint32_t)front->recovery->der_len;
        memcpy(told.recovery.certificate, front->recovery->der, front->recovery->der_len);
    }
    record_encode(&told, &answer->record);
    broker_end_sign(&front->broker, &question, &answer->record, is_open ? &answer->secret : NULL,
                    &answer->signature);
}

void front_answer(struct front *front, int fd, const char *volume_id)
{
    static struct block_answer answer;
    struct error err = ERROR_INIT;
    struct front_volume *volume = find(front, volume_id);

    answer = (struct block_answer){ .ok = false };
    if (front->broker_down)
        error_set(&answer.err, ERROR_UNAVAILABLE, "broker is down");
    else if (!volume)
        error_set(&answer.err, ERROR_NOT_FOUND, "no such record");
    else
        fill_answer(front, volume, &answer);
    if (front->lie)
        front->lie(front, &answer);
    if (!block_send_answer(fd, &answer, &err))
        print_message("%s\n", err.text);
}

bool front_call(struct front *front, const struct block_request *request,
                struct block_result *result, struct error *err)
{
    auto_close int fd = front_send(front, request);

    front->opens_read_only = request->read_only;
    front->renews = request->operation == BLOCK_RENEW;
    *err = (struct error)ERROR_INIT;
    while (front_receive(front, fd, CALL_LIMIT_MS)) {
        if (front->last.kind <= BLOCK_ASK_CHANGE)
            front_answer(front, fd, request->volume_id);
        if (front->last.kind == BLOCK_ASK_EVIDENCE && front->vouch)
            front->vouch(front, fd);
        if (front->last.kind != BLOCK_DONE)
            continue;
        if (result)
            *result = front->last.result;
        *err = front->last.err;
        return front->last.ok;
    }
    return error_set(err, ERROR_CANCELLED, "the worker is gone");
}

/* "123 (name) S 45 ...": 45 is the parent of process 123. */
static bool is_child(const char *pid_text, pid_t parent)
{
    char path[300];
    auto_free char *text = NULL;
    size_t len = 0;
    uint64_t found = 0;
    struct error gone = ERROR_INIT;

    (void)snprintf(path, sizeof(path), "/proc/%s/stat", pid_text);
    if (!file_read(path, 4096, &text, &len, &gone))
        return false;
    char *rest = strrchr(text, ')');
    char *state = rest && strlen(rest) > 4 ? rest + 4 : NULL;
    return state && parse_u64(strsep(&state, " "), &found) && found == (uint64_t)parent;
}

pid_t front_worker(const struct front *front)
{
    uint64_t found = 0;
    DIR *folder = opendir("/proc");

    assert_non_null(folder);
    for (const struct dirent *e; (e = readdir(folder));) {
        uint64_t pid = 0;
        if (parse_u64(e->d_name, &pid) && is_child(e->d_name, front->blockd))
            found = pid;
    }
    closedir(folder);
    return (pid_t)found;
}
