/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "tests/unit/broker/fixture.h"

/* A store for one test: in memory, SQLite in a folder of its own, or another kind. */
struct store_place {
    struct store *store;
    char dir[64]; /* of SQLite; "" for the others */
    /* Opens it again; NULL: nothing would be left. */
    bool (*open)(struct store_place *place, struct error *err);
};

/* cmocka's set-up and tear-down. *state is the place; its store is unlocked with the key 1. */
int store_place_memory(void **state);
int store_place_sqlite(void **state);
int store_place_remove(void **state);

/* Unlocks with a key that begins with this byte; returns what the store found. */
struct store_check store_place_unlock(struct store *store, uint8_t first);
/* Closes the store, and opens and unlocks it again. */
struct store_check store_place_reopen(struct store_place *place);

/* A READY record; its id is its volume id. Not stored yet. */
struct record store_place_record(const char *tenant, const char *driver, const char *volume_id);
/* Stores the next version of r, with a key when it is the first of its lineage. */
bool store_place_swap(struct store *store, struct record *r, bool with_key, struct error *err);
/* Of tenant t, driver d. */
bool store_place_get(struct store *store, const char *volume_id, struct record *out,
                     struct error *err);
