/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "csi/stacked.h"
#include "tests/unit/csi/fake_upstream.h"
#include "tests/unit/test.h"

/* A plugin over a strict driver, for the tests of the stacked handlers. */
#define GIB (1ll << 30)
#define MIB (1ll << 20)

#define N1 "node-1~i-1" /* as NodeGetInfo names them; the driver below knows i-1 and i-2 */
#define N2 "node-2~i-2"

extern struct fake *f;
extern struct fake_upstream *u;
extern struct arena arena;
extern struct error err; /* of the last call */

int scene_set_up(void **state);
int scene_tear_down(void **state);

/* Calls of the services. NULL: err. */
void *controller(const char *method, const void *request);
void *group_controller(const char *method, const void *request);

/* The id, or NULL. */
const char *scene_create(const char *name, int64_t bytes);
const char *scene_create_from(const char *name, int64_t bytes, enum record_kind kind,
                              const char *source);
const char *scene_snapshot(const char *name, const char *source);
const char *scene_group(const char *name, const char *one, const char *other);

bool scene_delete(const char *id);
bool scene_delete_snapshot(const char *id);
bool scene_delete_group(const char *name, const char *one, const char *other);
bool scene_publish(const char *id, const char *node_id, bool read_only);
bool scene_unpublish(const char *id, const char *node_id);
int64_t scene_expand(const char *id, int64_t bytes); /* what is answered; 0: err */

const struct record *scene_record(const char *id); /* must be there */
bool scene_is_published(const char *id, const char *node_id);

/* The volume has been written, and was closed. */
void scene_was_used(const char *id);

/* One byte more than a record's id can have. */
void scene_long_id(char out[static VOLUME_ID_MAX + 2]);

#define STACKED_TEST(fn) cmocka_unit_test_setup_teardown(fn, scene_set_up, scene_tear_down)
#define CALLED(...)      fake_called(f, (const char *const[]){ __VA_ARGS__, NULL })
