/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "store/store_etcd_txn.h"
#include "tests/unit/broker/store_place.h"

/* A real etcd server of one member, for the tests of one program. */

/* Runs the tests. The last n_etcd of them need the server: they are skipped where etcd is not
 * installed. */
int etcd_place_run(const struct CMUnitTest *tests, size_t n, size_t n_etcd);

/* cmocka's set-up and tear-down: an empty store, unlocked, as replica "a". */
int etcd_place_open(void **state);
int etcd_place_close(void **state);
int etcd_place_empty(void **state); /* no store at all */

/* Another broker on the same etcd, locked. certificate: "client", or one of etcd_place_*. */
struct store *etcd_place_other(const char *replica, bool is_migration);
/* Options of such a store; members NULL: the server. */
struct store_options etcd_place_options(const char *replica, const char *members,
                                        char spec[static 256]);
/* Paths of files: "ca.crt", "other.crt", ... Not thread-safe. */
const char *etcd_place_file(const char *name);
unsigned etcd_place_port(void);

/* Reads and writes as somebody else would, who may write to etcd but is no broker. */
struct etcd_client *etcd_place_client(void);
void etcd_place_put(const struct etcd_key *key, const void *bytes, size_t len);
void etcd_place_delete(const struct etcd_key *key);
/* The value, in static memory; its length, or -1 when there is none. */
int etcd_place_get(const struct etcd_key *key, const uint8_t **out);

/* Stops the server's process, or lets it go on. */
void etcd_place_pause(bool is_paused);

/* A value that somebody keeps, to put it back later. */
struct etcd_kept {
    struct etcd_key key;
    uint8_t bytes[ETCD_RECORD_MAX];
    int len; /* -1: there was none */
};

void etcd_place_keep(const struct etcd_key *key, struct etcd_kept *out);
void etcd_place_put_back(const struct etcd_kept *kept);

/* Of a record of tenant t, driver d: its key, and that of the sum over its shard. */
void etcd_place_record_key(const char *volume_id, struct etcd_key *out);
void etcd_place_sum_key(const char *volume_id, struct etcd_key *out);
/* Stores such a record with a key of its own. */
struct record etcd_place_put_new(struct store *store, const char *volume_id);
size_t etcd_place_list(struct store *store); /* how many records a list of tenant t has */
