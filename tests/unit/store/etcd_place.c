/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/store/etcd_place.h"

#include "base/clock.h"
#include "base/file.h"
#include "tests/unit/proto/certificates.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define URL_BYTES 64
#define START_MS  20000

static struct {
    char dir[64];
    pid_t pid;
    unsigned port, peer_port;
    struct etcd_client *client;
} server = { .dir = "/tmp/tdvol-etcd-XXXXXX" };

static const char *const names[] = { "ca", "server", "client", "other" };

/* --- files --- */

const char *etcd_place_file(const char *name)
{
    static char paths[8][128];
    static unsigned at;
    char *path = paths[at++ % ARRAY_LEN(paths)];

    (void)snprintf(path, sizeof(paths[0]), "%s/%s", server.dir, name);
    return path;
}

static void write_pem(const char *name, const char *end, const char *text)
{
    char file[32];
    struct error err = ERROR_INIT;

    (void)snprintf(file, sizeof(file), "%s.%s", name, end);
    assert_ok(file_write(etcd_place_file(file), 0600, text, strlen(text), &err));
}

/* "other" is signed by itself: nobody trusts it. */
static void make_files(void)
{
    struct test_identity ca;

    test_identity_make(&ca, "etcd CA", NULL);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct test_identity own;

        test_identity_make(&own, names[i], i == 3 ? NULL : &ca);
        write_pem(names[i], "crt", i == 0 ? ca.certificate_pem : own.certificate_pem);
        write_pem(names[i], "key", i == 0 ? ca.key_pem : own.key_pem);
        test_identity_free(&own);
    }
    test_identity_free(&ca);
}

/* --- the server --- */

static unsigned free_port(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) != 0)
        abort();
    close(fd);
    return ntohs(address.sin_port);
}

static void run_server(void)
{
    char client[URL_BYTES], peer[URL_BYTES], cluster[URL_BYTES + 8];
    const char *const argv[] = { "etcd",
                                 "--name=one",
                                 "--data-dir",
                                 etcd_place_file("data"),
                                 "--listen-client-urls",
                                 client,
                                 "--advertise-client-urls",
                                 client,
                                 "--listen-peer-urls",
                                 peer,
                                 "--initial-advertise-peer-urls",
                                 peer,
                                 "--initial-cluster",
                                 cluster,
                                 "--client-cert-auth",
                                 "--trusted-ca-file",
                                 etcd_place_file("ca.crt"),
                                 "--cert-file",
                                 etcd_place_file("server.crt"),
                                 "--key-file",
                                 etcd_place_file("server.key"),
                                 NULL };
    int log = open(etcd_place_file("log"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    (void)snprintf(client, sizeof(client), "https://127.0.0.1:%u", server.port);
    (void)snprintf(peer, sizeof(peer), "http://127.0.0.1:%u", server.peer_port);
    (void)snprintf(cluster, sizeof(cluster), "one=%s", peer);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (log >= 0 && dup2(log, STDOUT_FILENO) >= 0 && dup2(log, STDERR_FILENO) >= 0)
        execvp(argv[0], (char *const *)(uintptr_t)argv);
    _exit(127);
}

static bool is_installed(void)
{
    return system("etcd --version >/dev/null 2>&1") == 0; /* NOLINT(cert-env33-c) */
}

static void start_server(void)
{
    const struct etcd_client_options options = { NULL, etcd_place_file("ca.crt"),
                                                 etcd_place_file("client.crt"),
                                                 etcd_place_file("client.key") };
    struct etcd_client_options with_members = options;
    auto_arena struct arena arena = { .limit = ETCD_ARENA_BYTES };
    char url[URL_BYTES];
    struct etcd_pair ignored;
    struct etcd_key key;
    struct error err = ERROR_INIT;

    server.port = free_port();
    server.peer_port = free_port();
    server.pid = fork();
    if (server.pid == 0)
        run_server();
    (void)snprintf(url, sizeof(url), "https://127.0.0.1:%u", server.port);
    with_members.members = url;
    etcd_key_all(&key);
    if (!etcd_client_new(&with_members, &server.client, &err) ||
        !etcd_get(server.client, &key, &arena, clock_now_ms() + START_MS, &ignored, &err)) {
        (void)fprintf(stderr, "%s\n", err.text);
        abort();
    }
}

static void stop_server(void)
{
    char command[128];

    etcd_client_free(server.client);
    (void)kill(server.pid, SIGKILL);
    (void)waitpid(server.pid, NULL, 0);
    (void)snprintf(command, sizeof(command), "rm -r %s", server.dir);
    if (system(command) != 0) /* NOLINT(cert-env33-c) */
        (void)fprintf(stderr, "%s stays\n", server.dir);
}

void etcd_place_pause(bool is_paused)
{
    assert_int_equal(kill(server.pid, is_paused ? SIGSTOP : SIGCONT), 0);
}

unsigned etcd_place_port(void)
{
    return server.port;
}

int etcd_place_run(const struct CMUnitTest *tests, size_t n, size_t n_etcd)
{
    bool has_server = is_installed();

    cmocka_set_message_output(CM_OUTPUT_TAP);
    if (!has_server) {
        print_message("# skipped, %zu cases over etcd: etcd is not installed\n", n_etcd);
        return _cmocka_run_group_tests("store", tests, n - n_etcd, NULL, NULL);
    }
    if (!mkdtemp(server.dir))
        return 1;
    make_files();
    start_server();
    int failed = _cmocka_run_group_tests("store", tests, n, NULL, NULL);

    stop_server();
    return failed;
}

/* --- stores --- */

struct store_options etcd_place_options(const char *replica, const char *members,
                                        char spec[static 256])
{
    if (members)
        (void)snprintf(spec, 256, "etcd:%s", members);
    else
        (void)snprintf(spec, 256, "etcd:https://127.0.0.1:%u", server.port);
    return (struct store_options){ .spec = spec,
                                   .ca = etcd_place_file("ca.crt"),
                                   .certificate = etcd_place_file("client.crt"),
                                   .key = etcd_place_file("client.key"),
                                   .replica = replica };
}

struct store *etcd_place_other(const char *replica, bool is_migration)
{
    char spec[256];
    struct store_options options = etcd_place_options(replica, NULL, spec);
    struct store *store = NULL;
    struct error err = ERROR_INIT;

    options.is_migration = is_migration;
    assert_ok(store_open(&options, &store, &err));
    return store;
}

static bool open_place(struct store_place *place, struct error *err)
{
    (void)err;
    place->store = etcd_place_other("a", false);
    return true;
}

static void run_txn(struct etcd_txn *txn)
{
    struct etcd_result ignored;
    struct error err = ERROR_INIT;

    assert_ok(etcd_txn_ask(server.client, txn, clock_now_ms() + START_MS, &ignored, &err));
}

int etcd_place_empty(void **state)
{
    auto_arena struct arena arena = { .limit = ETCD_ARENA_BYTES };
    struct etcd_txn txn = { .arena = &arena };
    struct etcd_key all;

    etcd_key_all(&all);
    (void)state;
    etcd_then_delete_all(&txn, &all);
    run_txn(&txn);
    return 0;
}

int etcd_place_open(void **state)
{
    static struct store_place place;

    (void)etcd_place_empty(state);
    place = (struct store_place){ .open = open_place };
    place.store = etcd_place_other("a", false);
    (void)store_place_unlock(place.store, 1);
    *state = &place;
    return 0;
}

int etcd_place_close(void **state)
{
    struct store_place *place = *state;

    store_close(&place->store);
    return 0;
}

/* --- somebody else --- */

struct etcd_client *etcd_place_client(void)
{
    return server.client;
}

void etcd_place_put(const struct etcd_key *key, const void *bytes, size_t len)
{
    auto_arena struct arena arena = { .limit = ETCD_ARENA_BYTES };
    struct etcd_txn txn = { .arena = &arena };

    etcd_then_put(&txn, key, bytes, len);
    run_txn(&txn);
}

void etcd_place_delete(const struct etcd_key *key)
{
    auto_arena struct arena arena = { .limit = ETCD_ARENA_BYTES };
    struct etcd_txn txn = { .arena = &arena };

    etcd_then_delete(&txn, key);
    run_txn(&txn);
}

int etcd_place_get(const struct etcd_key *key, const uint8_t **out)
{
    static uint8_t bytes[ETCD_RECORD_MAX];
    auto_arena struct arena arena = { .limit = ETCD_ARENA_BYTES };
    struct etcd_pair pair;
    struct error err = ERROR_INIT;

    assert_ok(etcd_get(server.client, key, &arena, clock_now_ms() + START_MS, &pair, &err));
    if (pair.revision == 0)
        return -1;
    assert_true(pair.value.len <= sizeof(bytes));
    if (pair.value.len > 0)
        memcpy(bytes, pair.value.bytes, pair.value.len);
    *out = bytes;
    return (int)pair.value.len;
}

void etcd_place_record_key(const char *volume_id, struct etcd_key *out)
{
    const struct store_name name = { "t", "d", volume_id };

    assert_true(etcd_key_record(&name, out));
}

void etcd_place_sum_key(const char *volume_id, struct etcd_key *out)
{
    struct etcd_key record;
    struct etcd_place place;
    struct error err = ERROR_INIT;

    etcd_place_record_key(volume_id, &record);
    assert_ok(etcd_place_of(&record, &place, &err));
    etcd_key_sum(place.shard, out);
}

void etcd_place_keep(const struct etcd_key *key, struct etcd_kept *out)
{
    const uint8_t *bytes = NULL;

    out->key = *key;
    out->len = etcd_place_get(key, &bytes);
    if (out->len > 0)
        memcpy(out->bytes, bytes, (size_t)out->len);
}

void etcd_place_put_back(const struct etcd_kept *kept)
{
    if (kept->len < 0)
        etcd_place_delete(&kept->key);
    else
        etcd_place_put(&kept->key, kept->bytes, (size_t)kept->len);
}

struct record etcd_place_put_new(struct store *store, const char *volume_id)
{
    struct record r = store_place_record("t", "d", volume_id);
    struct error err = ERROR_INIT;

    (void)snprintf((char *)r.key.id, sizeof(r.key.id), "key %s", volume_id);
    assert_ok(store_place_swap(store, &r, true, &err));
    return r;
}

static bool count_one(void *cookie, const struct record *r)
{
    (void)r;
    (*(size_t *)cookie)++;
    return true;
}

size_t etcd_place_list(struct store *store)
{
    const struct store_filter filter = {
        .tenant = "t", .driver = "", .location = "", .source_volume_id = ""
    };
    size_t n = 0;
    struct error err = ERROR_INIT;

    assert_ok(store->ops->list(store, &filter, count_one, &n, &err));
    return n;
}
